"""`mimi-edge export`: from task files to what a device runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.cli.defaults import PACKAGE
from mimi_edge.cli.options import AsJson, Threads
from mimi_edge.cli.output import explained
from mimi_edge.errors import ConfigError
from mimi_edge.files import check_place

ONNX, ENGINES = "ONNX package", "Engines"


class Format(str, Enum):
    """What to export to."""

    ONNX = "onnx"
    TRT = "trt"
    ORT_ADAPTER = "ort-adapter"
    TRITON = "triton"
    EMBED = "embed"


OUTPUT = {Format.ORT_ADAPTER: Path("adapters"), Format.TRITON: Path("model_repository"), Format.EMBED: None}
"""Where the formats that are made from a package go, by default; files of their own lie here."""


@explained
def command(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Run folders or task files; for all but a package of ONNX graphs, packages as well.",
            show_default="the newest finished run in runs/",
        ),
    ] = None,
    file_format: Annotated[Format, typer.Option("--format", help="What to make; below.")] = Format.ONNX,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The package to make or to add to, the folder of adapters or of Triton's models, or the one file.",
            show_default="package, adapters, model_repository, or TASK.onnx",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="All but packages: a task of the package; may be repeated.", show_default="all"),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the images are.", show_default="where the run had them")
    ] = None,
    threads: Threads = None,
    embed: Annotated[
        bool,
        typer.Option("--embed", help="Short for --format embed."),
    ] = False,
    as_json: AsJson = False,
    weights: Annotated[
        str | None,
        typer.Option(
            help="The backbone's weights.", show_default="those of the run, else pretrained", rich_help_panel=ONNX
        ),
    ] = None,
    backbone_graph: Annotated[
        Path | None,
        typer.Option(
            help="A folder with an exported backbone.onnx; then torch is not needed.",
            show_default=False,
            rich_help_panel=ONNX,
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="What engines compute in.", show_default="fp16", rich_help_panel=ENGINES),
    ] = None,
    strategy: Annotated[
        Strategy | None,
        typer.Option(
            help="An engine each, one for all with adapters as inputs, or one that is refitted.",
            show_default="per-task",
            rich_help_panel=ENGINES,
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            help="MIN:OPT:MAX images at a time, or one number.", show_default="1:1:8", rich_help_panel=ENGINES
        ),
    ] = None,
    mixed: Annotated[
        bool,
        typer.Option(
            "--mixed",
            help="shared: each answer of a batch names its own task and frame; what comes before the first adapter "
            "runs once a frame.",
            rich_help_panel=ENGINES,
        ),
    ] = False,
    spare_neurons: Annotated[
        int | None,
        typer.Option(min=0, help="shared, refit: room at each site for wider tasks.", rich_help_panel=ENGINES),
    ] = None,
    spare_classes: Annotated[
        int | None,
        typer.Option(min=0, help="shared, refit: room for tasks with more classes.", rich_help_panel=ENGINES),
    ] = None,
    backend: Annotated[
        Backend | None,
        typer.Option(help="trt or trt-rtx.", show_default="TensorRT, else TensorRT for RTX", rich_help_panel=ENGINES),
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            help="trt-rtx: build for such a GPU, like 8.6, without having one; may be repeated.",
            show_default=False,
            rich_help_panel=ENGINES,
        ),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            help="Run folder of a task, for images: training images to look for overflow and to calibrate, test "
            "images to prove the engine.",
            show_default=False,
            rich_help_panel=ENGINES,
        ),
    ] = None,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="int8: largest loss of accuracy on the validation split, as a share.",
            show_default="0.01",
            rich_help_panel=ENGINES,
        ),
    ] = None,
) -> None:
    """Make what a device runs, and check that it answers what was trained. What disagrees is not published.

    onnx: a graph for each task in a package that shares one file of backbone weights.
    embed: one ONNX file a task with everything inside, from pixels to probabilities.
    trt: TensorRT engines in a package, for this machine's GPU.
    ort-adapter: one graph, and a small file a task that ONNX Runtime switches to.
    triton: a model repository for NVIDIA's Triton server.
    Given runs or nothing, all but onnx first put the tasks into a package where it lacks them.
    """
    given = sources or []
    file_format = _embedding(file_format) if embed else file_format
    made_first = file_format is Format.ONNX or _makes_a_package(given)
    engine = {
        "precision": precision,
        "strategy": strategy,
        "batch": batch,
        "mixed": mixed or None,
        "spare_neurons": spare_neurons,
        "spare_classes": spare_classes,
        "backend": backend,
        "compute_capability": compute_capability,
        "max_accuracy_drop": max_accuracy_drop,
    }
    _check_options(
        {file_format, Format.ONNX} if made_first else {file_format},
        file_format,
        {
            (Format.ONNX,): {"--weights": weights, "--backbone-graph": backbone_graph},
            (Format.ONNX, *OUTPUT): {"--output": output},
            (Format.ONNX, Format.TRT): {"--data": data},
            (Format.TRT, *OUTPUT): {"--task": task},
            (Format.TRT,): {"--run": run, **{"--" + name.replace("_", "-"): value for name, value in engine.items()}},
        },
    )
    from mimi_edge.cli.formats.onnx import Making

    if output is not None:
        check_place(output, folder=True)
    package = PACKAGE if output is None or file_format in OUTPUT else output
    making = Making(package, data=data, weights=weights, backbone_graph=backbone_graph, threads=threads)
    if file_format is Format.ONNX:
        from mimi_edge.cli.formats.onnx import export as export_onnx

        export_onnx(given, making, as_json=as_json)
    elif file_format in OUTPUT:
        write = _writer(file_format)
        write(given, output or OUTPUT[file_format], making, tasks=task or None, as_json=as_json)
    else:
        from mimi_edge.cli.formats.engines import export as export_engines

        export_engines(given, engine, making, tasks=task or None, runs=run or (), as_json=as_json)


def _embedding(file_format: Format) -> Format:
    if file_format not in (Format.ONNX, Format.EMBED):
        raise ConfigError(f"--embed makes ONNX files, and --format {file_format.value} something else. Leave one out.")
    return Format.EMBED


def _writer(file_format: Format) -> Callable[..., None]:
    """What makes a format of OUTPUT."""
    if file_format is Format.ORT_ADAPTER:
        from mimi_edge.cli.formats.ort_adapter import export as export_adapters

        return export_adapters
    if file_format is Format.TRITON:
        from mimi_edge.cli.formats.triton import export as export_triton

        return export_triton
    from mimi_edge.cli.formats.embedded import export as export_embedded

    return export_embedded


def _makes_a_package(sources: Sequence[Path]) -> bool:
    from mimi_edge.cli.formats.targets import are_made_first

    return are_made_first(sources)


def _check_options(
    made: Collection[Format], chosen: Format, options: Mapping[tuple[Format, ...], Mapping[str, Any]]
) -> None:
    """Refuses options that nothing of what is made would look at.

    Args:
        made: all that is made on the way.
        chosen: the format.
        options: by the formats that look at them; None or an empty list where one was not given.

    Raises:
        ConfigError: there are some; all are named.
    """
    wrong = [
        f"  - {option} is of {', '.join(one.value for one in formats)}"
        for formats, given in options.items()
        for option, value in given.items()
        if not set(made) & set(formats) and value is not None and value != []
    ]
    if wrong:
        listed = "\n".join(wrong)
        raise ConfigError(f"--format {chosen.value} does not go with:\n{listed}\nLeave them out, or choose the format.")
