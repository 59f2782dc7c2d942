"""Accuracy at equal bytes and passes, as docs/equal-bytes.csv has it: tables for pages, or the picture of all budgets.

Without --picture and --pages it prints a table in Markdown: mean and standard deviation over seeds, for each method and
data set. `equal_bytes_runs.py` adds lines to the file, of what `mimi-edge compare` has trained. A page says
which tables it has, in a comment above each: `<!-- equal_bytes.py --budget-mb 0.1 --passes 6 -->`. The column
`precision` is what trainings computed in, where that was written down.
"""

from __future__ import annotations

import argparse
import csv
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from mimi_edge.charts.saving import save
from mimi_edge.charts.style import Entry, house_style, line, logarithmic, new_figure, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILE = Path(__file__).parent.parent / "docs" / "equal-bytes.csv"
TITLES = {
    "mimi-int1": "MiMi, 1 bit (`mimi+`)",
    "adapters-int1": "adapters, 1 bit",
    "lora-int1": "LoRA, 1 bit",
    "adaptformer-int1": "AdaptFormer, 1 bit",
    "mimi": "MiMi",
    "adapters": "adapters",
    "lora": "LoRA",
    "adaptformer": "AdaptFormer",
    "ssf": "SSF",
    "bitfit": "BitFit",
    "vpt-deep": "VPT-deep",
    "linear": "linear probe",
}
"""Of methods, in the order of tables."""
DRAWN = ("mimi-int1", "adapters-int1", "lora-int1", "mimi", "adapters", "lora", "linear")
DATASETS = {
    "digits": "digits",
    "Fashion-MNIST, 1,000 images": "Fashion-MNIST, 1,000",
    "sprites-location": "sprites-location",
    "sprites-orientation": "sprites-orientation",
    "sprites-count": "sprites-count",
}
PANELS = (2, 3)
TICKS = (5, 10, 30, 100, 300)
SEEDS = 3
"""A table says how many there are where it is another number."""
_TABLE = re.compile(r"(<!-- equal_bytes\.py (.*) -->\n)(?:\|.*\n)*")


@dataclass(frozen=True)
class Found:
    """What runs of one method on one data set at one budget came to, by seed."""

    size_bytes: tuple[int, ...]
    validation: tuple[float, ...]
    test: tuple[float, ...]


def main() -> None:
    """Prints or draws."""
    options = _options()
    if options.pages:
        for page in options.pages:
            page.write_text(renewed(page.read_text("utf-8")), "utf-8")
    elif options.picture:
        draw(_chosen(options), options)
    else:
        print(table(options))


def renewed(page: str) -> str:
    """The page with its tables as the file has them now."""
    return _TABLE.sub(lambda place: f"{place[1]}{table(_options(shlex.split(place[2])))}\n", page)


def table(options: argparse.Namespace) -> str:
    """The table that was asked for."""
    by_budget: dict[str, list[Mapping[str, str]]] = {f"{budget:g}": [] for budget in options.budget_mb}
    for one in _chosen(options):
        by_budget.get(one["budget_mb"], []).append(one)
    return "\n".join(_rows(by_budget, options.split))


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--backbone", default="built-in")
    parser.add_argument("--budget-mb", type=float, nargs="+", default=[0.03], help="one below the other")
    parser.add_argument("--passes", type=int, nargs="+", help="over the images; else whatever was measured")
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--warm-up", default="ten steps", help="ten steps, or a twentieth, as it was before")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--picture", type=Path, help="draw all budgets into this file instead, in so many --passes")
    parser.add_argument("--pages", type=Path, nargs="+", help="renew all tables of Markdown pages instead")
    options = parser.parse_args(arguments)
    if options.picture and len(options.passes or ()) != 1:
        parser.error("--picture joins budgets by a line: give --passes, one number, so that they may be compared")
    return options


def _chosen(options: argparse.Namespace) -> list[Mapping[str, str]]:
    asked = (options.backbone, f"{options.rate:g}", options.warm_up)
    with options.file.open(newline="") as opened:
        lines = [one for one in csv.DictReader(opened) if (one["backbone"], one["rate"], one["warm_up"]) == asked]
    return [one for one in lines if options.passes is None or int(one["passes"]) in options.passes]


def found(lines: Sequence[Mapping[str, str]], **wanted: str) -> Found:
    """Runs with these entries."""
    chosen = [one for one in lines if all(one[name] == value for name, value in wanted.items())]
    return Found(
        tuple(int(one["size_bytes"]) for one in chosen),
        tuple(float(one["validation"]) for one in chosen),
        tuple(float(one["test"]) for one in chosen),
    )


def _rows(by_budget: Mapping[str, Sequence[Mapping[str, str]]], split: str) -> Iterator[str]:
    """Markdown: a line for each method that was run; which budget it had, where there are several."""
    all_lines = [one for lines in by_budget.values() for one in lines]
    datasets = [name for name in DATASETS if any(one["data"] == name for one in all_lines)]
    with_budget = len(by_budget) > 1
    yield "| MB " * with_budget + "| | bytes | " + " | ".join(DATASETS[name] for name in datasets) + " |"
    yield "|---:" * with_budget + "|---|---:|" + "---:|" * len(datasets)
    for (budget, lines), (method, title) in product(by_budget.items(), TITLES.items()):
        sizes = found(lines, method=method).size_bytes
        if sizes:
            cells = [_cell(getattr(found(lines, method=method, data=name), split)) for name in datasets]
            yield f"| {budget} " * with_budget + f"| {title} | {_range(sizes)} | {' | '.join(cells)} |"


def _range(sizes: Sequence[int]) -> str:
    least, most = min(sizes), max(sizes)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    scatter = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
    seeds = "" if len(values) == SEEDS else f" ({len(values)})"
    return f"{fmean(values):.4f}{scatter}{seeds}".replace("0.", ".")


def draw(lines: Sequence[Mapping[str, str]], options: argparse.Namespace) -> None:
    """A panel for each data set, a line for each method: mean test accuracy, and a bar of one standard deviation.

    Args:
        lines: of one backbone, at one rate, in equal passes.
        options: as asked for; `picture` is the path of the PNG or SVG file.
    """
    (passes,) = options.passes
    with house_style():
        figure = new_figure(
            10.5, 6.2, f"Accuracy against bytes, {passes} passes over the images, rate {options.rate:g}"
        )
        *panels, last = figure.subplots(*PANELS).flat
        entries: dict[str, Entry] = {}
        for axes, (name, title) in zip(panels, DATASETS.items(), strict=True):
            own = [one for one in lines if one["data"] == name]
            logarithmic(axes, "x", [int(one["size_bytes"]) / 1e3 for one in own], TICKS)
            axes.set(title=title, xlabel="bytes of the task file, thousands", ylabel="test accuracy, %")
            for number, method in enumerate(DRAWN):
                entries[method] = _method_on(axes, [one for one in own if one["method"] == method], method, number)
        last.set_axis_off()
        last.legend(*zip(*entries.values(), strict=True), loc="center")
        save(figure, options.picture)


def _method_on(axes: Axes, lines: Sequence[Mapping[str, str]], method: str, number: int) -> Entry:
    budgets = sorted({one["budget_mb"] for one in lines}, key=float)
    runs = [found(lines, budget_mb=budget) for budget in budgets]
    sizes = [fmean(one.size_bytes) / 1e3 for one in runs]
    means = [100 * fmean(one.test) for one in runs]
    bars = [100 * stdev(one.test) if len(one.test) > 1 else 0.0 for one in runs]
    ends = [(mean - bar, mean + bar) for mean, bar in zip(means, bars, strict=True)]
    title = TITLES[method].replace("`", "")
    joined, name = line(axes, sizes, means, number, title)
    marks, _ = points(axes, sizes, means, ends, number, title)
    return (joined, marks), name


if __name__ == "__main__":
    main()
