"""`mimi-edge predict`: classify image files with a package."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mimi_edge.choices import Backend
from mimi_edge.cli.options import AsJson, Threads
from mimi_edge.cli.output import document_or, explained, fail, say, show_table
from mimi_edge.cli.watching import watching
from mimi_edge.errors import ConfigError, MimiEdgeError


@explained
def command(
    package: Annotated[
        Path,
        typer.Argument(help="A package, a folder of adapters, or one merged .onnx graph.", show_default=False),
    ],
    images: Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)],
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="A task of the package; may be repeated.", show_default="all"),
    ] = None,
    backend: Annotated[
        Backend, typer.Option(help="What computes the answers; trt and trt-rtx use the package's engines.")
    ] = Backend.ORT_CPU,
    engine: Annotated[
        Path | None, typer.Option(help="An engine for the package's tasks, from elsewhere.", show_default=False)
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Use that engine although no package vouches for it: engines are code.")
    ] = False,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Classify image files. Images that cannot be used are named at the end, with exit code 1; the others go on."""
    from mimi_edge.export.prediction import predict

    bad: dict[Path, ConfigError] = {}
    with watching() as listener:
        predictions = predict(
            package,
            images,
            task or None,
            backend=backend,
            engine=engine,
            trust=trust,
            threads=threads,
            on_bad=bad.__setitem__,
            listener=listener,
        )
    rows = [
        (str(one.path), one.task, one.label, f"{one.probability:.1%}", _runners_up(one.top[1:3])) for one in predictions
    ]
    document = {
        "predictions": [asdict(one) | {"path": str(one.path)} for one in predictions],
        "unusable": {str(path): _reason(error) for path, error in bad.items()},
    }
    document_or(
        as_json, document, lambda: show_table("Predictions", ("image", "task", "class", "probability", "then"), rows)
    )
    for path, error in bad.items():
        say(f"Left out {path}: {_reason(error)}")
    if bad:
        fail(f"{len(bad)} of {len(images)} images could not be used.", MimiEdgeError.exit_code)


def _reason(error: ConfigError) -> str:
    from mimi_edge.images.reading import UnusableImageError

    return error.reason if isinstance(error, UnusableImageError) else str(error)


def _runners_up(top: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{label} {probability:.1%}" for label, probability in top)
