"""Accuracies that others printed, to stand beside ours.

VTAB-1k by ViT-B/16 pretrained on ImageNet-21k: the table of V-PETL Bench (Xin et al., NeurIPS 2024). Four figures of it
are known from Table 9 of arXiv 2311.03873, too, and agree. Every method has the size that its authors gave it there, so
these say what can be reached, not at how many bytes.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

VTAB_FILE = "published_vtab.csv"
"""Per cent, a row a set and a column a method."""
SOURCE = "V-PETL Bench (Xin et al., 2024), ViT-B/16 of ImageNet-21k, each method at its authors' size"


@cache
def published_on_vtab() -> Mapping[str, Mapping[str, float]]:
    """Accuracy, 0..1, by set, then by our name of the method."""
    with (Path(__file__).parent / VTAB_FILE).open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    return {row.pop("set"): {method: float(percent) / 100 for method, percent in row.items()} for row in rows}
