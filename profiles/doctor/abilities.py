"""What each command can do here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mimi_edge.choices import Backend
from mimi_edge.parts import GPU, REPORT, TRAIN
from mimi_edge.profiles.doctor.findings import Ability, Can, first_sentence, listed
from mimi_edge.profiles.doctor.judges.libraries import reinstall_line
from mimi_edge.profiles.doctor.judges.runtimes import (
    computes,
    engines_line,
    has_engines,
    makes,
    why_not_provider,
)
from mimi_edge.profiles.doctor.judges.seen import ABSENT, GOOD, Seen, library
from mimi_edge.profiles.doctor.steps import CACHE
from mimi_edge.runtimes import ENGINE_BACKENDS, ENGINE_LIBRARIES, GRAPH_BACKENDS, runtime_of

OWN_ROWS = ("train", "plan", "export", "predict", "profile", "doctor")
"""Commands that need more than the core, and this one."""
TRAINING, EXPORTING = ("torch", "torchvision", "timm"), ("torch", "torchvision", "timm", "onnxscript")


def abilities(seen: Seen, commands: Sequence[str] = ()) -> tuple[Ability, ...]:
    """A row for each command, and for each format or backend where that makes a difference.

    Args:
        seen: what was found.
        commands: names of all commands; those without a row of their own need the core alone.
    """
    if lacking := seen.core_lacking:
        return (Ability("all commands", Can.NO, f"{listed(lacking)} cannot be loaded", seen.install_line(None)),)
    return (*_training(seen), *_exporting(seen), *_running(seen), *_power(seen), *_plots(seen), *_rest(commands))


def _training(seen: Seen) -> Iterator[Ability]:
    if lacking := seen.lacking(*TRAINING):
        yield Ability("train, plan", Can.NO, _lack(seen, lacking), _line(seen, lacking))
    else:
        yield Ability("train, plan", Can.YES, f"on {_gpu_name(seen)}" if seen.torch_on_gpu else "on the CPU")
    if lacking := seen.lacking("torch", "timm"):
        yield Ability("profile --backend torch", Can.NO, _lack(seen, lacking), _line(seen, lacking))
    else:
        yield Ability("profile --backend torch", Can.YES, "with torch")


def _exporting(seen: Seen) -> Iterator[Ability]:
    lacking, cache = seen.lacking(*EXPORTING), seen.facts(CACHE).get("why_not")
    unchecked = "" if computes(Backend.ORT_CPU, seen) else "; graphs are not checked, as ONNX Runtime does not work"
    if lacking:
        text = f"only with --backbone-graph: {_lack(seen, lacking)}{unchecked}"
        yield Ability("export --format onnx", Can.PARTLY, text, _line(seen, lacking))
    elif cache:
        yield Ability("export --format onnx", Can.PARTLY, "only with --backbone-graph: the cache cannot be written")
    else:
        yield Ability("export --format onnx", Can.PARTLY if unchecked else Can.YES, unchecked[2:])
    if computes(Backend.ORT_CPU, seen):
        yield Ability("export --format ort-adapter", Can.YES, "")
    else:
        yield _no_runtime("export --format ort-adapter", Backend.ORT_CPU, seen)
    for backend in ENGINE_BACKENDS:
        yield _building(backend, seen)


def _building(backend: Backend, seen: Seen) -> Ability:
    command = f"export --format trt --backend {backend.value}"
    if not has_engines(backend, seen):
        return _no_engines(command, backend, seen)
    if not makes(backend, "builder", seen):
        return Ability(command, Can.NO, _why_unmade(backend, "builder", seen))
    if seen.gpu is None:
        return Ability(command, Can.PARTLY, f"engines are built and not proved: {_lower(seen.why_no_gpu)}")
    return Ability(command, Can.YES, f"for {_gpu_name(seen)}")


def _running(seen: Seen) -> Iterator[Ability]:
    for backend in GRAPH_BACKENDS:
        command = f"predict, profile --backend {backend.value}"
        if computes(backend, seen):
            where = f"on {_gpu_name(seen)}" if runtime_of(backend).needs_gpu else "on the CPU"
            yield Ability(command, Can.YES, where)
        else:
            yield _no_runtime(command, backend, seen)
    for backend in ENGINE_BACKENDS:
        command = f"predict, profile --backend {backend.value}"
        if not has_engines(backend, seen):
            yield _no_engines(command, backend, seen)
        elif seen.gpu is None or not makes(backend, "runtime", seen):
            yield Ability(command, Can.NO, _why_unmade(backend, "runtime", seen))
        else:
            yield Ability(command, Can.YES, f"on {_gpu_name(seen)}")


def _no_runtime(command: str, backend: Backend, seen: Seen) -> Ability:
    """Without a GPU no line helps on the backends that need one."""
    if runtime_of(backend).needs_gpu and seen.gpu is None:
        return Ability(command, Can.NO, _lower(seen.why_no_gpu))
    if seen.library("onnxruntime") != GOOD:
        part = runtime_of(backend).part
        absent = seen.library("onnxruntime") == ABSENT
        line = _runtime_line(part, seen) if absent else reinstall_line(library("onnxruntime"), seen)
        return Ability(command, Can.NO, why_not_provider(backend, seen), line)
    return Ability(command, Can.NO, why_not_provider(backend, seen))


def _runtime_line(part: str, seen: Seen) -> str | None:
    """The index has no ONNX Runtime for a Jetson's GPU; the row of TensorRT has its own line."""
    return None if part == GPU and seen.is_jetson else seen.install_line(part)


def _no_engines(command: str, backend: Backend, seen: Seen) -> Ability:
    installed = seen.failure(backend.value) is not None or seen.facts(backend.value).get("installed")
    if installed:
        return Ability(command, Can.NO, "it is installed and broken", engines_line(backend, seen))
    library = ENGINE_LIBRARIES[backend]
    if seen.is_jetson and not library.on_jetson:
        return Ability(command, Can.NO, "it is not made for a Jetson; take --backend trt")
    builds_without = library.builds_without_gpu and command.startswith("export")
    if seen.gpu is None and not builds_without:
        return Ability(command, Can.NO, f"not installed, and {_lower(seen.why_no_gpu)}")
    return Ability(command, Can.NO, "not installed", engines_line(backend, seen))


def _why_unmade(backend: Backend, what: str, seen: Seen) -> str:
    failure = seen.failure(f"{backend.value} {what}")
    return _lower(seen.why_no_gpu) if seen.gpu is None or failure is None else _lower(first_sentence(failure.text))


def _power(seen: Seen) -> Iterator[Ability]:
    facts, failure = seen.facts("power"), seen.failure("power")
    if facts.get("meter"):
        yield Ability("profile --power", Can.YES, facts["meter"])
    else:
        why = failure.text if failure else facts.get("why_not") or "not looked at"
        yield Ability("profile --power", Can.NO, _lower(first_sentence(why)))


def _plots(seen: Seen) -> Iterator[Ability]:
    if seen.library("matplotlib") == GOOD:
        yield Ability("plots", Can.YES, "")
    else:
        yield Ability("plots", Can.NO, _lack(seen, ["matplotlib"]), _line(seen, ["matplotlib"], REPORT))


def _rest(commands: Sequence[str]) -> Iterator[Ability]:
    if rest := [name for name in commands if name not in OWN_ROWS]:
        yield Ability(", ".join(rest), Can.YES, "")


def _lack(seen: Seen, names: list[str]) -> str:
    absent = [name for name in names if seen.library(name) == ABSENT]
    broken = [name for name in names if name not in absent]
    said = [f"{listed(group)} {word}" for group, word in ((broken, "broken"), (absent, "not installed")) if group]
    return ", ".join(said)


def _line(seen: Seen, lacking: list[str], part: str = TRAIN) -> str:
    """What is missing is installed; what is broken is mended first."""
    broken = [library(name) for name in lacking if seen.library(name) != ABSENT]
    first = next((one for one in broken if not seen.blamed(one)), None)
    return seen.install_line(part) if first is None else reinstall_line(first, seen)


def _gpu_name(seen: Seen) -> str:
    return "the GPU" if seen.gpu is None else str(seen.gpu["name"])


def _lower(text: str) -> str:
    """Goes on in a sentence; a name or an abbreviation keeps its capitals."""
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text
