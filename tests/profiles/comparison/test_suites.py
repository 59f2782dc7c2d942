"""Suites: which sets are compared, under which protocol, and the table of all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from mimi_edge.choices import SUITE_NAMES
from mimi_edge.errors import ConfigError
from mimi_edge.images.sources.names import is_named
from mimi_edge.images.sources.torchvision_sets import SETS
from mimi_edge.methods.catalogue import method_named
from mimi_edge.profiles.comparison.compare import Comparison
from mimi_edge.profiles.comparison.config import ComparisonConfig
from mimi_edge.profiles.comparison.published import SOURCE, published_on_vtab
from mimi_edge.profiles.comparison.results import Line
from mimi_edge.profiles.comparison.suites import SUITES, compare_suite, suite_table
from mimi_edge.profiles.rendering.markdown import table_text

ASKED = ComparisonConfig(methods=("mimi", "linear"), budgets_mb=(0.5,), seeds=2, learning_rates=(0.1,))


class Bench:
    """Stands for comparisons: MiMi gets better with every set, and some sets cannot be read."""

    def __init__(self, unreadable: str = "") -> None:
        self.asked: list[tuple[ComparisonConfig, Path]] = []
        self.unreadable = unreadable

    def __call__(self, config: ComparisonConfig, folder: Path) -> Comparison:
        self.asked.append((config, folder))
        if self.unreadable and self.unreadable in config.data:
            lines = (Line("mimi", "MiMi", 500_000, "it is not there"), Line("linear", "linear probe", None, "nor here"))
        else:
            count = len(self.asked)
            lines = (
                Line("mimi", "MiMi", 500_000, size_bytes=1, test=(0.1 * count, 0.1 * count + 0.02)),
                Line("linear", "linear probe", None, size_bytes=1, test=(0.05,)),
            )
        return Comparison(folder, config, lines, {})


def test_vtab_has_its_protocol_and_folders_for_what_torchvision_has_not(tmp_path: Path) -> None:
    bench, heard = Bench(unreadable="torchvision"), list[Any]()
    (tmp_path / "sets" / "resisc45").mkdir(parents=True)
    asked = replace(ASKED, data_root=str(tmp_path / "sets"))
    found = compare_suite(SUITES["vtab"], asked, tmp_path / "out", bench, heard.append)
    assert list(found) == ["resisc45", "dsprites-location", "dsprites-orientation"]
    assert {(one.train_images, one.val_images, one.train_on_val) for one, _ in bench.asked} == {(800, 200, True)}
    assert bench.asked[0][1] == tmp_path / "out" / "caltech101"
    assert len(SUITES["vtab"].members) == 19
    said = heard[-1].text
    assert "caltech101 (it is not there)" in said
    assert "dmlab (no such folder in --data-root)" in said
    assert "dmlab" in heard[0].text, "known before anything is trained"
    table = table_text(suite_table(SUITES["vtab"], found))
    numbers = next(line for line in table.splitlines() if line.startswith("| MiMi"))
    position = [one.data for one, _ in bench.asked].index(str(tmp_path / "sets" / "resisc45")) + 1
    assert f"| {0.1 * position + 0.01:.2%} |" in numbers
    names = {method: method_named(method).title for method in ("linear", "full")}
    assert f"| {names['linear']}, published |  | 68.60% | 12.50% | 20.00% | 33.70% |" in table
    assert f"| {names['full']}, published |  | 84.20% | 57.50% | 46.70% | 62.80% |" in table
    assert SOURCE in table
    assert "MiMi, published" not in table


def test_published_figures_are_of_the_suite_and_have_the_means_that_are_known() -> None:
    published, members = published_on_vtab(), [member.name for member in SUITES["vtab"].members]
    assert list(published) == members
    assert {len(figures) for figures in published.values()} == {11}
    groups = (members[:7], members[7:11], members[11:])
    # Of natural, specialised and structured sets, as arXiv 2203.12119 prints them.
    known = {"full": (75.88, 83.36, 47.64), "linear": (68.93, 77.16, 26.84), "vpt-deep": (78.48, 82.43, 54.98)}
    for method, means in known.items():
        ours = [100 * fmean(published[name][method] for name in group) for group in groups]
        assert ours == pytest.approx(means, abs=0.03), "one figure was copied wrongly"
    assert all(method_named(method).title for method in published["dtd"])


def test_the_mean_is_of_what_is_there(tmp_path: Path) -> None:
    found = compare_suite(SUITES["multitask"], ASKED, tmp_path, Bench())
    assert list(found) == ["cifar10", "cifar100", "flowers", "svhn"]
    table = suite_table(SUITES["multitask"], found)
    assert table.rows[0][-1] == "26.00%"
    assert len(table.rows) == 2, "nothing is known here that others printed"


def test_without_any_set_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No data set of DomainNet is there"):
        compare_suite(SUITES["domainnet"], ASKED, tmp_path, Bench())


def test_suites_name_what_is_known() -> None:
    assert tuple(SUITES) == SUITE_NAMES
    named = [member.data for suite in SUITES.values() for member in suite.members if is_named(member.data)]
    torchvision = {data.partition(":")[2] for data in named if data.startswith("torchvision:")}
    assert torchvision <= set(SETS)
