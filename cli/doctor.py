"""`mimi-edge doctor`: what is installed, what each command can do here, and the line that brings what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimi_edge.cli.options import AsJson
from mimi_edge.cli.output import Advice, document_or, explained, show_advice, show_facts
from mimi_edge.cli.progress import watching
from mimi_edge.runtimes import ENGINE_BACKENDS, GRAPH_BACKENDS, runtime_of
from mimi_edge.version import __version__

if TYPE_CHECKING:
    from mimi_edge.profiles.doctor.diagnosis import Diagnosis

STYLES = {"broken": "bold red", "warning": "bold yellow", "missing": "bold"}
ROWS = {
    "core": ("",),
    "training": ("train",),
    "runtime": ("cpu",),
    "images": ("heic",),
    "reports": ("report", "jetson"),
}
"""Rows of libraries, by the parts that bring them."""
LIMIT_S = 60.0


@explained
def command(
    context: typer.Context,
    limit: Annotated[float, typer.Option(min=1, help="Seconds that a library may take to load.")] = LIMIT_S,
    as_json: AsJson = False,
) -> None:
    """Look at this machine: what is installed, what each command can do here, and the line that brings what is missing.

    Ends with 0 when nothing is broken, and with 1 when something that is installed does not work. A part that is not
    installed is no fault.
    """
    from mimi_edge.profiles.doctor.diagnosis import diagnose, document_of

    commands = list(getattr(context.find_root().command, "commands", ()))
    with watching() as listener:
        diagnosis = diagnose(commands, limit_s=limit, listener=listener)
    document_or(as_json, document_of(diagnosis), lambda: _show(diagnosis))
    if not diagnosis.healthy:
        raise typer.Exit(1)


def _show(diagnosis: Diagnosis) -> None:
    show_facts("What is here", dict(_here(diagnosis)))
    show_facts(
        "What the commands can do", {one.command: _words(one.can.value, one.text) for one in diagnosis.abilities}
    )
    advice = [
        Advice(f"{one.state.value}, {one.topic}", one.text, one.line, STYLES[one.state.value])
        for one in diagnosis.findings
    ]
    advice += list(_to_be_able(diagnosis))
    show_advice("What to do" if advice else "Nothing to do: everything that is installed works.", advice)


def _to_be_able(diagnosis: Diagnosis) -> Iterator[Advice]:
    """What commands would need that no finding speaks of, by the line that brings it."""
    known = {one.line for one in diagnosis.findings}
    wanted: dict[str, list[str]] = {}
    for one in diagnosis.abilities:
        if one.line is not None and one.line not in known:
            wanted.setdefault(one.line, []).append(one.command)
    for line, commands in wanted.items():
        yield Advice("to be able to", "; ".join(commands), line)


def _words(can: str, text: str) -> str:
    return f"{can}: {text}" if text else can


def _here(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    """Names and values, in few lines."""
    from mimi_edge.parts import LIBRARIES
    from mimi_edge.profiles.doctor.judges.seen import GOOD, Seen

    seen = Seen(diagnosis.answers)
    machine = seen.facts("machine")
    yield "mimi-edge", f"{__version__}, Python {machine.get('python', 'unknown')}"
    if "cpu" in machine:
        yield "machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['system']} {machine['machine']}"
    if machine.get("memory_bytes"):
        yield "memory", f"{machine['memory_bytes'] / 1e9:.1f} GB, {machine['available_bytes'] / 1e9:.1f} GB available"
    yield "GPU", _gpu(seen.gpu) if seen.gpu else f"none: {seen.why_no_gpu}"
    for title, parts in ROWS.items():
        good = [one.name for one in LIBRARIES if one.part in parts and seen.library(one.name) == GOOD]
        if good:
            yield title, ", ".join(f"{name} {seen.version(name) or '(version not told)'}" for name in good)
    yield from _runtimes(seen.facts)
    for name, title in (("cache", "cache"), ("working folder", "this folder")):
        if "path" in (facts := seen.facts(name)):
            yield title, f"{facts['path']}, {facts['free_bytes'] / 1e9:,.1f} GB free"


def _runtimes(facts: Any) -> Iterator[tuple[str, str]]:
    working = [one.value for one in GRAPH_BACKENDS if facts(one.value).get("computes")]
    if working:
        yield "computes", ", ".join(working)
    for runtime in map(runtime_of, ENGINE_BACKENDS):
        found = facts(runtime.backend.value)
        if version := found.get("version"):
            yield runtime.name, f"{version}, library {found.get('library') or 'not found'}"


def _gpu(gpu: Mapping[str, Any]) -> str:
    capability = ".".join(map(str, gpu["compute_capability"]))
    return (
        f"{gpu['name']}, {gpu['memory_bytes'] / 1e9:.1f} GB, compute capability {capability}, CUDA runtime "
        f"{gpu['runtime_cuda']}, driver up to CUDA {gpu['driver_cuda']}"
    )
