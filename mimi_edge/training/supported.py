"""The backbones that are supported, for whoever cannot wait for timm to be loaded.

They are those of the families in `mimi_edge.training.families`, as of the timm in constraints.txt, in `supported.csv`;
what a newer timm has of them works too. `python -m mimi_edge.training.measure_supported` writes the file again.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from mimi_edge.builtin import BACKBONE_NAME

MOST_SIMILAR = 6
FILE = "supported.csv"


@dataclass(frozen=True)
class SupportedBackbone:
    """A model of timm's without its classifier.

    Attributes:
        name: of its architecture.
        family: as of `mimi_edge.training.families`.
        pixels: S, side of the images it is made for.
        parameters: how many it has.
        gflops: operations for one image, 2 x multiply-accumulates.
        sites: where adapters can go.
        features: F, width of its pooled output.
        widths: channels of all sites together.
    """

    name: str
    family: str
    pixels: int
    parameters: int
    gflops: float
    sites: int
    features: int
    widths: int


@cache
def supported() -> tuple[SupportedBackbone, ...]:
    """All of them, by family and name."""
    lines = (files("mimi_edge.training") / FILE).read_text(encoding="utf-8").splitlines()
    return tuple(
        SupportedBackbone(
            name=row["name"],
            family=row["family"],
            pixels=int(row["pixels"]),
            parameters=int(row["parameters"]),
            gflops=float(row["gflops"]),
            sites=int(row["sites"]),
            features=int(row["features"]),
            widths=int(row["widths"]),
        )
        for row in csv.DictReader(lines)
    )


def supported_names() -> tuple[str, ...]:
    """Names of all of them."""
    return tuple(one.name for one in supported())


def similar_names(name: str) -> list[str]:
    """Supported backbones whose names begin with that one or are much like it, the former and the most alike first."""
    wanted, known = name.partition(".")[0], (*supported_names(), BACKBONE_NAME)
    beginning = [one for one in known if wanted and one.startswith(wanted)]
    alike = get_close_matches(wanted, known, n=MOST_SIMILAR, cutoff=0.6)
    return list(dict.fromkeys([*beginning, *alike]))[:MOST_SIMILAR]
