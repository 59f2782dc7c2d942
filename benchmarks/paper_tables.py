"""Trained parameters, bytes and operations of every method on Swin-T, beside what arXiv 2311.03873 prints.

Nothing is trained or downloaded: all of this follows from the network's shapes. Columns that the paper prints and this
repository has the figures of are compared; where the two differ the formula stands, and the difference is shown.

    python benchmarks/paper_tables.py [--json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import timm
import torch
from rich.console import Console
from rich.table import Table

from mimi_edge.images.image_size import ImageSize
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.methods.costs import flops_of
from mimi_edge.methods.method import Setting
from mimi_edge.methods.network import Network
from mimi_edge.tasks.descriptions import method_choice
from mimi_edge.tasks.sizes import size_bytes
from mimi_edge.tasks.stores import Store
from mimi_edge.tasks.task import BackboneIdentity, TaskHeader
from mimi_edge.training.backbones import sites_and_calls
from mimi_edge.training.families import family_of
from mimi_edge.training.flops import FlopsCount, count_flops
from mimi_edge.training.networks import network_of

BACKBONE = "swin_tiny_patch4_window7_224"
SIDE = ImageSize(224, 224)
CLASSES = 345
"""Of DomainNet, the paper's largest data set."""


@dataclass(frozen=True)
class Printed:
    """A line of the paper's tables: what it prints, in millions of parameters with the head, and GFLOPs."""

    method: str
    settings: Mapping[str, Setting]
    millions: float | None = None
    gflops: float | None = None


LINES = (
    Printed("linear", {}, gflops=8.72),
    Printed("full", {}),
    Printed("attention", {}, millions=8.93),
    Printed("mlp", {}, millions=17.54),
    Printed("partial-1", {}),
    Printed("mlp-head", {"layers": 2}),
    Printed("mlp-head", {"layers": 3}),
    Printed("mlp-head", {"layers": 5}),
    Printed("mlp-head", {"layers": 9}),
    Printed("bitfit", {"tables": "yes"}, millions=0.34),
    Printed("vpt-deep", {"tokens": 10}),
    Printed("vpt-deep", {"tokens": 100}, millions=0.71),
    Printed("adaptformer", {"neurons": 64}, millions=0.84),
    Printed("adaptformer", {"neurons": 256}, millions=2.53),
    Printed("ssf", {}),
    Printed("fact-tk", {}),
    Printed("fact-tt", {}),
    Printed("lora", {}),
    Printed("phm", {"neurons": 48}),
    Printed("compacter", {"neurons": 48}),
    Printed("adapters", {"neurons": 1}, gflops=8.74),
    Printed("adapters", {"neurons": 23}),
    Printed("adapters", {"neurons": 47}, gflops=9.26),
    Printed("adapters", {"ratio": 8.0}, gflops=9.06),
    Printed("adapters", {"ratio": 32.0}),
    Printed("adapters", {"ratio": 64.0}),
)


@dataclass(frozen=True)
class Row:
    """What a method costs on Swin-T, and what the paper prints of it."""

    method: str
    trained: int
    with_head: int
    file_bytes: int
    gflops: float
    printed_millions: float | None
    printed_gflops: float | None

    @property
    def agrees(self) -> str:
        """Whether everything that is printed is what was computed, rounded alike."""
        pairs = ((self.printed_millions, self.with_head / 1e6), (self.printed_gflops, self.gflops))
        known = [(printed, round(ours, 2)) for printed, ours in pairs if printed is not None]
        if not known:
            return "not known here"
        apart = [f"{ours - printed:+.2f}" for printed, ours in known if ours != printed]
        return ", ".join(apart) or "yes"


def main() -> None:
    """Computes and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = computed()
    if options.json:
        print(json.dumps([asdict(row) | {"agrees": row.agrees} for row in rows], indent=1))
        return
    table = Table(
        "method", "trained", "with head", "file, fp32, bytes", "GFLOPs", "printed M", "printed GFLOPs", "agrees"
    )
    for row in rows:
        printed = ["" if value is None else f"{value:.2f}" for value in (row.printed_millions, row.printed_gflops)]
        figures = (f"{row.trained:,}", f"{row.with_head:,}", f"{row.file_bytes:,}", f"{row.gflops:.3f}")
        table.add_row(row.method, *figures, *printed, row.agrees)
    Console().print(table)


def computed() -> list[Row]:
    """All lines; on the meta device, because no weight matters."""
    with torch.device("meta"):
        module = timm.create_model(BACKBONE, num_classes=0).eval()
        family = family_of(module)
        network = network_of(module, family, *sites_and_calls(module, family, SIDE), SIDE)
        bare = count_flops(module, SIDE, FlopsCount.PAPER)
    return [_row(line, network, bare) for line in LINES]


def _row(line: Printed, network: Network, bare: int) -> Row:
    method = METHODS[line.method]
    settings = method.settings_of(line.settings)
    description = method.describe(network, settings)
    header = TaskHeader(
        name=line.method,
        backbone=BackboneIdentity(BACKBONE, "0" * 64, network.features),
        classes=tuple(f"class {number}" for number in range(CLASSES)),
        preprocessing=Preprocessing(SIDE, SIDE, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        activation="gelu",
        store=Store.FP32,
        accuracy={},
        training_sha256="0" * 64,
        versions={},
        method=method_choice(method, settings),
    )
    said = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in line.settings.items()
    )
    return Row(
        method=f"{method.title} ({said})" if said else method.title,
        trained=description.numbers,
        with_head=description.numbers + CLASSES * (network.features + 1),
        file_bytes=size_bytes(header, description.shapes),
        gflops=(bare + flops_of(description, network)) / 1e9,
        printed_millions=line.millions,
        printed_gflops=line.gflops,
    )


if __name__ == "__main__":
    main()
