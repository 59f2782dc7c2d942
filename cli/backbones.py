"""`mimi-edge backbones`: which backbones are supported, what they cost, and what a budget leaves for adapters."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimi_edge.choices import Store, own_head_store
from mimi_edge.cli.options import AsJson
from mimi_edge.cli.output import document_or, explained, say, show_table
from mimi_edge.errors import ConfigError
from mimi_edge.profiles.rendering.table import Table

if TYPE_CHECKING:
    from mimi_edge.training.supported import SupportedBackbone


@explained
def command(
    wanted: Annotated[
        str, typer.Option("--filter", help="Only those whose name or family has these letters in it.")
    ] = "",
    budget_mb: Annotated[float, typer.Option(help="Largest task file, in MB of 1000^2 bytes.")] = 0.5,
    classes: Annotated[int, typer.Option(min=1, help="Of the task.")] = 10,
    store: Annotated[Store, typer.Option(help="Number format of the task file.")] = Store.FP16,
    as_json: AsJson = False,
) -> None:
    """Show the backbones that --backbone takes: size, operations, sites, and what the budget leaves for adapters."""
    from mimi_edge.budgets import budget_from_units
    from mimi_edge.training.supported import supported

    budget_bytes = budget_from_units(budget_mb, None).size_bytes or 0
    letters = wanted.lower()
    found = [one for one in supported() if letters in one.name.lower() or letters in one.family.lower()]
    if not found:
        families = ", ".join(dict.fromkeys(one.family for one in supported()))
        raise ConfigError(f"No supported backbone has {wanted!r} in its name or family. Families: {families}.")
    documents = [_document(one, budget_bytes, classes, store) for one in found]
    document_or(as_json, {"backbones": documents}, lambda: _show(documents, budget_mb, classes))


def _document(one: SupportedBackbone, budget_bytes: int, classes: int, store: Store) -> dict[str, Any]:
    from mimi_edge.tasks.low_bit import SCALE_BYTES

    left = budget_bytes - _bytes_of_head(one, classes, store)
    # A neuron has two vectors; where their weights have few bits, each has a scale, too.
    scales = SCALE_BYTES * one.sites if store.low_bits else 0
    neurons = max(0, left) / (2 * (one.widths * store.bits / 8 + scales))
    return asdict(one) | {"left_bytes": left, "neurons_per_site": round(neurons, 2)}


def _bytes_of_head(one: SupportedBackbone, classes: int, store: Store) -> int:
    """Of a task file that has a head and no adapters, with names of classes as long as `class 0`."""
    from mimi_edge.images.image_size import ImageSize
    from mimi_edge.images.preprocessing import Preprocessing
    from mimi_edge.tasks.sizes import size_bytes
    from mimi_edge.tasks.task import BackboneIdentity, SplitAccuracy, TaskHeader

    side = ImageSize.of(one.pixels)
    header = TaskHeader(
        name="task",
        backbone=BackboneIdentity(one.name, "0" * 64, one.features),
        classes=tuple(f"class {index}" for index in range(classes)),
        preprocessing=Preprocessing(side, side, "bicubic", (0.5,) * 3, (0.5,) * 3),
        activation="gelu",
        store=store,
        head_store=own_head_store(store),
        accuracy={"val": SplitAccuracy(0.5, 1000), "test": SplitAccuracy(0.5, 1000)},
        training_sha256="0" * 64,
        versions={"mimi-edge": "0.1.0", "timm": "1.0.0", "torch": "2.0.0"},
    )
    return size_bytes(header, {})


def _show(documents: list[dict[str, Any]], budget_mb: float, classes: int) -> None:
    rows = [
        (
            one["name"],
            one["family"],
            one["pixels"],
            f"{one['parameters'] / 1e6:,.1f}",
            f"{one['gflops']:,.1f}",
            one["sites"],
            f"{one['left_bytes']:,}",
            f"{one['neurons_per_site']:.3g}",
        )
        for one in documents
    ]
    left = f"bytes left at {budget_mb:g} MB"
    columns = ("backbone", "family", "pixels", "parameters, M", "GFLOPs", "sites", left, "neurons a site")
    show_table(Table.of(f"{len(rows)} backbones, for a task of {classes} classes", columns, rows))
    say(
        "Bytes left are for adapters, after head and header; neurons a site are those if all sites had as many. GFLOPs "
        "are 2 x multiply-accumulates of one image. --backbone builtin ships with mimi-edge."
    )
