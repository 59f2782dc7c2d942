"""The benchmarks of arXiv 2311.03873: several data sets, compared one after the other, and one table of all.

Sets that neither come with mimi-edge nor are known to torchvision are looked for as folders of `--data-root`; what is
not there is left out and named. Beside VTAB's figures stand published ones; for the other two none are known here.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.images.sources.names import is_named
from mimi_edge.methods.catalogue import method_named
from mimi_edge.profiles.comparison.compare import Comparison
from mimi_edge.profiles.comparison.config import ComparisonConfig
from mimi_edge.profiles.comparison.published import SOURCE, published_on_vtab
from mimi_edge.profiles.comparison.results import Line
from mimi_edge.profiles.rendering.readable import percent
from mimi_edge.profiles.rendering.table import Table
from mimi_edge.texts import fault_list

ALWAYS_PUBLISHED = ("linear", "full")
"""Methods whose published figures stand in a table whether or not they are compared."""


@dataclass(frozen=True)
class Member:
    """A data set of a suite.

    Attributes:
        name: in the table, and of its folder.
        data: as of `--data`; of what is no name, a folder in `--data-root`.
    """

    name: str
    data: str


@dataclass(frozen=True)
class Suite:
    """Several data sets under one protocol.

    Attributes:
        title: above its table.
        members: in their order.
        protocol: entries of `ComparisonConfig` that it fixes.
        published: gives accuracies that others printed, by set and method.
    """

    title: str
    members: tuple[Member, ...]
    protocol: Mapping[str, Any] = field(default_factory=dict)
    published: Callable[[], Mapping[str, Mapping[str, float]]] = dict


def _torchvision(**names: str) -> tuple[Member, ...]:
    return tuple(Member(name, f"torchvision:{theirs}") for name, theirs in names.items())


def _folders(*names: str) -> tuple[Member, ...]:
    return tuple(Member(name, name) for name in names)


SUITES: Mapping[str, Suite] = MappingProxyType(
    {
        "multitask": Suite(
            "Multi-task", _torchvision(cifar10="CIFAR10", cifar100="CIFAR100", flowers="Flowers102", svhn="SVHN")
        ),
        "domainnet": Suite("DomainNet", _folders("clipart", "infograph", "painting", "quickdraw", "real", "sketch")),
        "vtab": Suite(
            "VTAB-1k",
            (
                *_torchvision(caltech101="Caltech101", cifar100="CIFAR100", dtd="DTD", flowers="Flowers102"),
                *_torchvision(pets="OxfordIIITPet", svhn="SVHN", sun397="SUN397", camelyon="PCAM", eurosat="EuroSAT"),
                *_folders("resisc45", "retinopathy"),
                *_torchvision(**{"clevr-count": "CLEVRClassification"}),
                *_folders("clevr-distance", "dmlab", "kitti-distance"),
                Member("dsprites-location", "generated:sprites-location"),
                Member("dsprites-orientation", "generated:sprites-orientation"),
                *_folders("smallnorb-azimuth", "smallnorb-elevation"),
            ),
            {"train_images": 800, "val_images": 200, "train_on_val": True},
            published_on_vtab,
        ),
    }
)
"""By name."""


def compare_suite(
    suite: Suite,
    config: ComparisonConfig,
    folder: Path,
    compared: Callable[[ComparisonConfig, Path], Comparison],
    listener: Listener = silent,
) -> dict[str, Comparison]:
    """Compares methods on every data set of a suite that is there, each in a folder of its own.

    Args:
        suite: whose protocol goes before what the configuration says.
        config: what to compare, but for the data.
        folder: of all.
        compared: makes one comparison in a folder.
        listener: hears which sets are left out.

    Raises:
        ConfigError: none of the sets is there.
        StoppedError: it was asked to stop.
    """
    data = {member.name: _data_of(member, config) for member in suite.members}
    missing = [f"{name} (no such folder in --data-root)" for name, one in data.items() if one is None]
    if missing:
        listener(Note("What is not there is left out:\n" + fault_list(missing)))
    found = {}
    for name, one in data.items():
        if one is None:
            continue
        listener(Note(f"{suite.title}: {name}."))
        made = compared(replace(config, data=one, **suite.protocol), folder / name)
        if all(line.mean is None for line in made.lines):
            missing.append(f"{name} ({made.lines[0].why_not})")
        else:
            found[name] = made
    if missing:
        listener(Note("Left out:\n" + fault_list(missing, longest=None)))
    if not found:
        raise ConfigError(f"No data set of {suite.title} is there. To fetch what torchvision knows: --download")
    return found


def _data_of(member: Member, config: ComparisonConfig) -> str | None:
    """As of `--data`; None for a folder that is not there."""
    if is_named(member.data):
        return member.data
    folder = Path(config.data_root) / member.data
    return str(folder) if config.data_root and folder.is_dir() else None


def suite_table(suite: Suite, found: Mapping[str, Comparison]) -> Table:
    """Mean test accuracy of each method on each set, their mean, and what others printed of the same methods.

    Full fine-tuning and a linear probe stand there in any case, where they are known.
    """
    columns = ("method", "budget, MB", *found, "mean")
    lines = [one.lines for one in found.values()]
    rows = [_row(same) for same in zip(*lines, strict=True)]
    known, note = suite.published(), "Mean over seeds of the test accuracy of stored weights"
    wanted = dict.fromkeys((*(one.method for one in lines[0]), *ALWAYS_PUBLISHED))
    printed = [method for method in wanted if any(method in known.get(name, {}) for name in found)]
    for method in printed:
        figures = [known.get(name, {}).get(method) for name in found]
        rows.append((f"{method_named(method).title}, published", "", *map(percent, figures), percent(_mean(figures))))
    note += f". Published: {SOURCE}" if printed else ""
    note += "; the last column is the mean of all that are there."
    return Table(suite.title, columns, tuple(rows), note)


def _row(lines: Sequence[Line]) -> tuple[str, ...]:
    first, means = lines[0], [line.mean for line in lines]
    budget = "" if first.budget_bytes is None else f"{first.budget_bytes / 1e6:g}"
    return (first.title, budget, *map(percent, means), percent(_mean(means)))


def _mean(figures: Sequence[float | None]) -> float | None:
    there = [figure for figure in figures if figure is not None]
    return statistics.fmean(there) if len(there) == len(figures) else None
