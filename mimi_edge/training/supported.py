"""The backbones that are supported, for whoever cannot wait for timm to be loaded.

They are those of the families in `mimi_edge.training.families`, as of the timm in constraints.txt, in `supported.csv`;
what a newer timm has of them works too. `python -m mimi_edge.training.supported` writes the file again.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
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


def measured(name: str) -> SupportedBackbone | None:
    """What timm's model of that name is, on the meta device; None where it is not supported."""
    import timm
    import torch
    from timm.data import resolve_model_data_config

    from mimi_edge.errors import ConfigError
    from mimi_edge.training.backbones import sites_and_calls
    from mimi_edge.training.families import TimmModel, family_of
    from mimi_edge.training.flops import FlopsCount, count_flops

    module: TimmModel
    with torch.device("meta"):
        module = timm.create_model(name, num_classes=0).eval()
        try:
            family = family_of(module)
        except ConfigError:
            return None
        _, height, width = resolve_model_data_config(module)["input_size"]
        if height != width:
            return None
        sites, _ = sites_and_calls(module, family, height)
        gflops = round(count_flops(module, height, FlopsCount.FULL) / 1e9, 3)
    return SupportedBackbone(
        name,
        family.name,
        height,
        sum(parameter.numel() for parameter in module.parameters()),
        gflops,
        len(sites),
        int(module.num_features),
        sum(site.width for site in sites),
    )


def _all_measured() -> Iterator[SupportedBackbone]:
    import timm

    from mimi_edge.training.families import FAMILIES

    # The file of timm's that has a family's class, and `mobilevit`, whose models are made of ByobNet.
    homes = {kind.partition(".")[0] for family in FAMILIES for kind in family.models} - {"byobnet"} | {"mobilevit"}
    for name in sorted({name for home in homes for name in timm.list_models(module=home)}):
        if (one := measured(name)) is not None:
            yield one


def _write() -> None:
    rows = sorted(_all_measured(), key=lambda one: (one.family.lower(), one.name))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(field.name for field in fields(SupportedBackbone))
    writer.writerows(astuple(one) for one in rows)


if __name__ == "__main__":
    _write()
