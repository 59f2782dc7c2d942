"""`mimi-edge inspect` of everything that a command makes, in words and in the order of the network."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
from cli_world import here
from tiny_package import make_package

from mimi_edge.budgets import Budget
from mimi_edge.choices import Scope
from mimi_edge.cli import output
from mimi_edge.cli.output import show_table
from mimi_edge.export.open_packages import Package
from mimi_edge.profiles.rendering.table import Table
from mimi_edge.profiles.report_documents import report_document
from mimi_edge.sites import network_order
from mimi_edge.training.config import CONFIG_FILE, TrainingConfig, config_document


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.chdir(tmp_path)
    return make_package(tmp_path, {"digits": (3, 0, 1), "letters": (1, 2, 2)})


@pytest.mark.parametrize("name", ["robot.mimi", "robot.tar"])
def test_an_archive_is_looked_into(name: str, package: Package) -> None:
    here("pack", package.folder, "--output", name).ended(0)
    document = here("inspect", name, "--json").ended(0).document
    assert (document["kind"], document["holds"]) == ("archive", "full")
    assert document["size_bytes"] == Path(name).stat().st_size
    assert list(document["tasks"]) == ["digits", "letters"]
    size = (package.folder / "digits.safetensors").stat().st_size
    assert document["tasks"]["digits"]["task_file_bytes"] == size
    said = here("inspect", name).ended(0).out
    assert "digits.safetensors" in said
    assert document["sha256"] in said.replace("\n", "").replace(" ", "")


def test_an_archive_that_was_altered_is_refused(package: Package) -> None:
    here("pack", package.folder, "--output", "robot.mimi").ended(0)
    content = bytearray(Path("robot.mimi").read_bytes())
    content[len(content) // 2] ^= 1
    Path("robot.mimi").write_bytes(content)
    assert "is damaged" in here("inspect", "robot.mimi").ended(4).err


def test_a_folder_of_adapters_and_a_report_are_looked_into(package: Package) -> None:
    here("export", package.folder, "--format", "ort-adapter").ended(0)
    document = here("inspect", "adapters", "--json").ended(0).document
    assert list(document["tasks"]) == ["digits", "letters"]
    assert document["tasks"]["digits"]["file_bytes"] == Path("adapters/digits.onnx_adapter").stat().st_size
    assert "digits.onnx_adapter" in here("inspect", "adapters").ended(0).out


def test_a_report_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "profiles")
    make_report = importlib.import_module("report_samples").make_report
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report_document(make_report(failed=True))))
    assert here("inspect", path, "--json").ended(0).document["kind"] == "report"
    said = here("inspect", path).ended(0).out
    assert all(name in said for name in ("backbone", "digits", "fashion", "p50 ms", "broken"))


def test_what_is_no_report_is_refused(package: Package) -> None:
    Path("other.json").write_text("{}")
    assert "other.json" in here("inspect", "other.json").ended(4).err


@pytest.mark.parametrize("command", ["pack", "verify", "ledger"])
def test_commands_about_a_package_take_the_one_that_is_here(command: str, package: Package) -> None:
    assert "Taking the package package." in here(command, "--json").ended(0).err
    package.folder.rename("elsewhere")
    assert "mimi-edge export" in here(command).ended(2).err


def test_bare_it_takes_the_package_and_else_the_newest_run(package: Package) -> None:
    assert here("inspect", "--json").ended(0).document["kind"] == "package"
    package.folder.rename("elsewhere")
    assert "mimi-edge train" in here("inspect").ended(2).err


def test_a_run_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs/digits")
    run.mkdir(parents=True)
    config = TrainingConfig(Budget(size_bytes=500_000, flops=2_000_000_000), name="digits")
    (run / CONFIG_FILE).write_text(json.dumps(config_document(config) | {"start": None}))
    outcome = here("inspect", "runs/digits").ended(0)
    assert "at most 500,000 bytes and 2 GFLOPs" in outcome.out
    assert not set("{}'") & set(outcome.out)
    assert "None" not in outcome.out
    assert "False" not in outcome.out
    assert outcome.err.splitlines()[-1] == "Next: mimi-edge train --resume runs/digits"


def test_collections_of_a_run_are_told_in_words(tmp_path: Path) -> None:
    config = TrainingConfig(Budget(size_bytes=500_000), name="digits", scope=Scope.STAGES, stage_shares=(1, 2.5))
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config_document(config) | {"start": None}))
    said = here("inspect", tmp_path).ended(0).out
    assert re.search(r"stage shares +1(\.0)?, 2\.5 ", said)
    assert "settings" not in said
    assert not set("{}[]'") & set(said)


def test_blocks_are_in_the_order_of_the_network() -> None:
    names = [f"blocks.{block}.{part}" for block in (0, 1, 10, 11, 2) for part in ("mlp", "attn")]
    assert network_order(names) == [f"blocks.{block}.{part}" for block in (0, 1, 2, 10, 11) for part in ("attn", "mlp")]
    stages = ["layers.10.blocks.0.attn", "layers.2.blocks.10.attn", "layers.2.blocks.9.mlp"]
    assert network_order(stages) == [stages[2], stages[1], stages[0]]


@pytest.mark.parametrize("columns", [3, 9])
def test_a_name_is_not_broken_in_a_terminal_of_80_columns(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(output, "WIDEST", 80, raising=False)
    monkeypatch.setattr(output, "NARROWEST", 80)
    name = "jetson-agx-orin-64gb"
    cells = ["words that can be broken anywhere" if columns == 3 else "989.4"] * (columns - 1)
    show_table(Table.of("Some", ["device", *map(str, range(columns - 1))], [(name, *cells)]))
    said = capsys.readouterr().out
    assert name in said
    assert all(len(line.rstrip()) <= 80 for line in said.splitlines())
