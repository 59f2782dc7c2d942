"""Measures every model of timm's that is of a supported family: `python -m mimi_edge.training.measure_supported`.

What it prints is `supported.csv`.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import astuple, fields

import timm
import torch
from timm.data import resolve_model_data_config

from mimi_edge.errors import ConfigError
from mimi_edge.images.image_size import ImageSize
from mimi_edge.training.backbones import sites_and_calls
from mimi_edge.training.config import RANDOM
from mimi_edge.training.cvt import DEPTHS, cvt
from mimi_edge.training.families import FAMILIES, TimmModel, family_of
from mimi_edge.training.flops import FlopsCount, count_flops
from mimi_edge.training.supported import SupportedBackbone


def measured(name: str) -> SupportedBackbone | None:
    """What timm's model of that name is, on the meta device; None where it is not supported."""
    module: TimmModel
    with torch.device("meta"):
        module = (cvt(name, RANDOM, 0, None) if name in DEPTHS else timm.create_model(name, num_classes=0)).eval()
        try:
            family = family_of(module)
        except ConfigError:
            return None
        size = ImageSize(*resolve_model_data_config(module)["input_size"][1:])
        if not size.is_square:
            return None
        sites, _ = sites_and_calls(module, family, size)
        gflops = round(count_flops(module, size, FlopsCount.FULL) / 1e9, 3)
    return SupportedBackbone(
        name,
        family.name,
        size.height,
        sum(parameter.numel() for parameter in module.parameters()),
        gflops,
        len(sites),
        int(module.num_features),
        sum(site.width for site in sites),
    )


def _all_measured() -> Iterator[SupportedBackbone]:
    # The file of timm's that has a family's class, and `mobilevit`, whose models are made of ByobNet.
    kinds = [kind for family in FAMILIES for kind in family.models if not kind.startswith("mimi_edge.")]
    homes = {kind.partition(".")[0] for kind in kinds} - {"byobnet"} | {"mobilevit"}
    for name in sorted({name for home in homes for name in timm.list_models(module=home)} | set(DEPTHS)):
        if (one := measured(name)) is not None:
            yield one


def _write() -> None:
    rows = sorted(_all_measured(), key=lambda one: (one.family.lower(), one.name))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(field.name for field in fields(SupportedBackbone))
    writer.writerows(astuple(one) for one in rows)


if __name__ == "__main__":
    _write()
