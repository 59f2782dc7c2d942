"""`mimi-edge devices`: what is known of devices, and what a package should take on them at best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from mimi_edge.cli.options import AsJson, whole_numbers
from mimi_edge.cli.output import document_or, explained, say, show_facts, show_table
from mimi_edge.errors import ConfigError
from mimi_edge.profiles.devices.catalogue import add_device, all_devices, find_device
from mimi_edge.profiles.devices.device import PRECISIONS, Device
from mimi_edge.profiles.devices.quantities import BANDWIDTH, FLOATING, INTEGER, SIZE, in_words
from mimi_edge.profiles.devices.read_device import read_device
from mimi_edge.profiles.devices.roofline import (
    BOUNDS,
    LABEL,
    Estimate,
    EstimateError,
    compare,
    estimate,
    not_told_apart,
    why_not,
)
from mimi_edge.profiles.devices.work import Work, work_of
from mimi_edge.profiles.rendering.table import Table

GRAPH_SUFFIX = ".onnx"
MODE = ", mode "
"""Between a device's title and its power mode."""


@explained
def command(
    name: Annotated[
        str | None, typer.Argument(help="One device, such as jetson-orin-nano-8gb.", show_default="all of them")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="A profile of your own: check it and use it here.", show_default=False)
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Keep --file for later, once it is found to be right.")] = False,
    subject: Annotated[
        Path | None,
        typer.Option(
            "--estimate", help="A package or an .onnx graph: estimate its time on the devices.", show_default=False
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Task of the package.", show_default="its only one, else the bare backbone")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option("--device", help="A device, or NAME:POWER_MODE; may be repeated.", show_default="all of them"),
    ] = None,
    batch: Annotated[str, typer.Option(help="Images at a time, such as 1,8.")] = "1",
    precision: Annotated[str, typer.Option(help="fp32, tf32, fp16, bf16 or int8.")] = "fp16",
    measured_ms: Annotated[
        float | None,
        typer.Option(help="A measured time of a batch on the one --device: how far the estimate is off."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List device profiles, show or check one, or estimate what a package takes on them before one has them."""
    devices = _devices(file, add)
    if subject is not None:
        names = dict.fromkeys([*(device or []), *([name] if name else [])])
        chosen = [find_device(wanted, devices) for wanted in names] or devices
        batches = _batches(batch, precision, measured_ms, chosen)
        estimates = _estimates(_graph(subject, task), chosen, batches, precision, measured_ms)
        document_or(as_json, _document(estimates), lambda: _show_estimates(estimates))
    elif name or file:
        found = find_device(name, devices) if name else devices[-1]
        document_or(as_json, asdict(found), lambda: _show_facts(found))
    else:
        document = {"devices": [asdict(entry) for entry in devices]}
        document_or(as_json, document, lambda: _list(devices))


def _devices(file: Path | None, add: bool) -> list[Device]:
    """All profiles; one that was given as a file comes last."""
    if file is None:
        if add:
            raise ConfigError("--add keeps a profile that --file gives. Add --file FILE.")
        return list(all_devices().values())
    given = read_device(file)
    if add:
        say(f"Kept as {add_device(file)}.")
    known = all_devices()
    if not add and given.name in known and given != known[given.name]:
        say(f"There is another profile {given.name!r}; this one is used here. It needs another name to be added.")
    return [*(entry for entry in known.values() if entry.name != given.name), given]


def _list(devices: Sequence[Device]) -> None:
    rows = [
        (
            device.name,
            _scaled(device.memory_bytes, 1e9),
            _scaled(device.memory_bytes_per_s, 1e9),
            *(_scaled(device.operations_per_s.get(precision), 1e12) for precision in PRECISIONS),
            device.compute_capability or "",
        )
        for device in devices
    ]
    columns = ("device", "GB", "GB/s", *PRECISIONS, "CUDA")
    show_table(
        Table.of(
            f"{len(devices)} devices; 10^12 operations a second, peak, dense, from data sheets",
            columns,
            rows,
        )
    )


def _scaled(figure: float | None, unit: float) -> str:
    return "" if figure is None else f"{figure / unit:,.4g}" if figure < 1e4 * unit else f"{figure / unit:,.0f}"


def _operations(device: Device, precision: str) -> str:
    return in_words(device.operations_per_s[precision], INTEGER if precision == "int8" else FLOATING)


def _show_facts(device: Device) -> None:
    facts: dict[str, object] = {"kind": device.kind, "architecture": device.architecture}
    facts["compute capability"] = device.compute_capability
    if device.memory_bytes is not None:
        shared = ", shared by CPU and GPU" if device.unified_memory and device.kind != "cpu" else ""
        facts["memory"] = in_words(device.memory_bytes, SIZE) + shared
    if device.memory_bytes_per_s is not None:
        facts["bandwidth, peak"] = in_words(device.memory_bytes_per_s, BANDWIDTH)
    for precision in device.operations_per_s:
        facts[f"{precision}, peak, dense"] = _operations(device, precision)
    if (overhead := device.launch_overhead) is not None:
        facts["kernel launch, assumed"] = f"{overhead.seconds * 1e6:g} us. {overhead.assumption}"
    if device.board_watts is not None:
        facts["board power"] = f"{device.board_watts:g} W"
    facts |= _software_and_sources(device)
    show_facts(f"{device.name}: {device.title}", {key: value for key, value in facts.items() if value is not None})


def _software_and_sources(device: Device) -> dict[str, object]:
    facts: dict[str, object] = {}
    if device.power_modes:
        modes = [mode.name + (f" ({mode.watts:g} W)" if mode.watts else "") for mode in device.power_modes]
        facts["power modes"] = ", ".join(modes)
    for jetpack in device.jetpacks:
        parts = {"Linux for Tegra": jetpack.l4t, "CUDA": jetpack.cuda, "TensorRT": jetpack.tensorrt}
        facts[f"JetPack {jetpack.version}"] = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
    for number, note in enumerate(device.notes, 1):
        facts[f"note {number}"] = note
    for number, source in enumerate(device.sources, 1):
        facts[f"source {number}"] = ". ".join(filter(None, (source.title, source.publisher, source.address)))
    return facts


@dataclass(frozen=True)
class _Estimates:
    """What came of it: estimates of the devices that have the figures, reasons for the others."""

    graph: Path
    precision: str
    works: Sequence[Work]
    found: Sequence[Estimate]
    without: Mapping[str, str]
    error: EstimateError | None


def _batches(text: str, precision: str, measured_ms: float | None, devices: Sequence[Device]) -> tuple[int, ...]:
    """Sizes to estimate, once it is sure that all that was asked for goes together."""
    batches = tuple(dict.fromkeys(whole_numbers(text, "--batch", "1,8")))
    if min(batches) < 1:
        raise ConfigError(f"--batch takes whole numbers from 1; got {text!r}.")
    if precision not in PRECISIONS:
        raise ConfigError(f"--precision is one of {', '.join(PRECISIONS)}; got {precision!r}.")
    if measured_ms is not None and (len(devices) != 1 or len(batches) != 1):
        raise ConfigError("--measured-ms belongs to one device and one batch. Give one --device and one --batch.")
    return batches


def _graph(path: Path, task: str | None) -> Path:
    """The graph itself, or that of a package's task, or its bare backbone."""
    if path.suffix == GRAPH_SUFFIX:
        if task is not None:
            raise ConfigError(f"--task chooses from a package; {path} is a graph. Leave it out.")
        return path
    from mimi_edge.export.open_packages import read_package

    package = read_package(path, [] if task is None else [task])
    if task is not None:
        return package.task(task).graph
    return next(iter(package.tasks.values())).graph if len(package.tasks) == 1 else package.backbone_graph


def _estimates(
    graph: Path, devices: Sequence[Device], batches: Sequence[int], precision: str, measured_ms: float | None
) -> _Estimates:
    reasons = {_label(device): why_not(device, precision) for device in devices}
    without = {label: reason for label, reason in reasons.items() if reason is not None}
    if len(without) == len(reasons):
        listed = "; ".join(f"{label}: {reason}" for label, reason in without.items())
        raise ConfigError(f"There are no figures for an estimate ({listed}). Choose another --precision or --device.")
    works = [work_of(graph, batch) for batch in batches]
    able = [device for device in devices if _label(device) not in without]
    found = [estimate(device, work, precision) for device in able for work in works]
    error = None if measured_ms is None else compare(found[0], measured_ms)
    return _Estimates(graph, precision, works, found, without, error)


def _document(estimates: _Estimates) -> dict[str, Any]:
    error = estimates.error
    return {
        "label": LABEL,
        "graph": str(estimates.graph),
        "precision": estimates.precision,
        "work": [asdict(work) | {"bytes_moved": work.bytes_moved(estimates.precision)} for work in estimates.works],
        "estimates": [
            asdict(entry)
            | {"label": entry.label, "ms": entry.ms, "bound": entry.bound, "images_per_s": entry.images_per_s}
            for entry in estimates.found
        ],
        "not_told_apart": [[_label(entry) for entry in group] for group in not_told_apart(estimates.found)],
        "without_estimate": dict(estimates.without),
        "measured": None if error is None else asdict(error) | {"relative": error.relative},
    }


def _show_estimates(estimates: _Estimates) -> None:
    work_rows = [
        (work.batch, f"{work.flops / 1e9:,.3f}", f"{work.bytes_moved(estimates.precision) / 1e6:,.1f}", work.kernels)
        for work in estimates.works
    ]
    columns: tuple[str, ...] = ("batch", "GFLOPs", f"MB moved in {estimates.precision}", "kernels")
    show_table(Table.of(f"Work of {estimates.graph.name}", columns, work_rows))
    rows = [
        (_label(entry), entry.batch, f"{entry.ms:.3g}", entry.bound, f"{entry.images_per_s:,.0f}")
        for entry in estimates.found
    ]
    columns = ("device", "batch", "ms", "bound by", "img/s")
    title = f"ESTIMATES in {estimates.precision}, from data sheets; nothing was measured"
    show_table(Table.of(title, columns, rows))
    bounds = [
        (_label(entry), entry.batch, *(f"{entry.bounds_ms[it]:.3g}" if it in entry.bounds_ms else "" for it in BOUNDS))
        for entry in estimates.found
    ]
    show_table(Table.of("What each bound alone would allow, ms", ("device", "batch", *BOUNDS), bounds))
    for group in not_told_apart(estimates.found):
        say(_not_told_apart(group))
    for label, reason in estimates.without.items():
        say(f"No estimate for {label}: {reason}.")
    if estimates.error is not None:
        show_facts("Against a measurement", {_label(estimates.found[0]): str(estimates.error)})


def _not_told_apart(group: Sequence[Estimate]) -> str:
    return (
        f"{', '.join(map(_label, group))} are not told apart at batch {group[0].batch}: all are bound by starting "
        f"kernels, for which the same time is assumed on each ({group[0].ms:.3g} ms in all). A larger --batch, or a "
        "measurement, tells which is faster."
    )


def _label(entry: Device | Estimate) -> str:
    """The name to ask for it by, its power mode included."""
    name = entry.device if isinstance(entry, Estimate) else entry.name
    mode = entry.title.partition(MODE)[2]
    return f"{name}:{mode}" if mode else name
