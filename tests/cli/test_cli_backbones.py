"""`mimi-edge backbones`: the table of what is supported, from a file and in a moment."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from mimi_edge.cli.app import app
from mimi_edge.training.supported import supported


def documents(*options: str) -> list[dict[str, object]]:
    ended = CliRunner().invoke(app, ["backbones", "--json", *options])
    assert ended.exit_code == 0
    found: list[dict[str, object]] = json.loads(ended.stdout)["backbones"]
    return found


def test_all_are_listed_and_some_are_found_by_name_or_family() -> None:
    assert [one["name"] for one in documents()] == [one.name for one in supported()]
    assert {one["family"] for one in documents("--filter", "mobilevit")} == {"MobileViT"}
    assert {one["name"] for one in documents("--filter", "dinov2")} >= {"vit_small_patch14_dinov2"}


def test_what_a_budget_leaves() -> None:
    (swin,) = documents("--filter", "swin_tiny_patch4")
    assert (swin["parameters"], swin["sites"], swin["features"]) == (27_519_354, 24, 768)
    assert swin["widths"] == 17_664 // 2
    # 10 classes of 768 weights and a bias in two bytes, and under two kilobytes of header.
    assert 500_000 - 2 * 769 * 10 - 2000 < swin["left_bytes"] < 500_000 - 2 * 769 * 10
    (small,) = documents("--filter", "swin_tiny_patch4", "--budget-mb", "0.1", "--store", "fp32")
    assert small["left_bytes"] == swin["left_bytes"] - 400_000 - 2 * 769 * 10
    assert small["neurons_per_site"] == round(small["left_bytes"] / (17_664 * 4), 2)


def test_letters_that_nobody_has_are_answered_with_the_families() -> None:
    ended = CliRunner().invoke(app, ["backbones", "--filter", "resnet"])
    assert ended.exit_code == 2
    assert "Swin V2" in ended.output


def test_the_table_for_people() -> None:
    ended = CliRunner().invoke(app, ["backbones", "--filter", "swin_tiny_patch4"])
    assert "27.5" in ended.output
    assert "8.9" in ended.output or "9.0" in ended.output
