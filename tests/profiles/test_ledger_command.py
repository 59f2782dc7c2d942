"""`mimi-edge ledger` in this process."""

import json

import pytest
from report_samples import make_report
from tiny_package import make_package
from typer.testing import CliRunner

from mimi_edge.cli.app import app
from mimi_edge.profiles.ledger import ledger_from_document, panels
from mimi_edge.profiles.report_documents import report_document


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return make_package(tmp_path_factory.mktemp("package"), {"first": (2, 3, 1), "second": (0, 1, 0)}).folder


def run(code, *arguments, **environment):
    result = CliRunner(env={"COLUMNS": "200", **environment}).invoke(app, ["ledger", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_tables_say_what_counts(package):
    said = run(0, package, "--tasks", "1,7").stdout
    for words in ("Storage in MB", "Memory in MB", "Smaller in storage", "On disk now", "N = 7", "full models"):
        assert words in said
    total = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
    assert f"{total:,}" in said


def test_the_document_is_json_and_a_ledger(package):
    document = json.loads(run(0, package, "--tasks", "2", "--json").stdout)
    ledger = ledger_from_document(document)
    total = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
    assert ledger.line("onnx-package").storage.total_bytes(2) == total == document["folder_bytes"]
    assert all(line["storage_bytes"].keys() == {"2"} for line in document["strategies"])


def test_precision_is_that_of_engines_that_are_not_there(package):
    document = json.loads(run(0, package, "--precision", "int8", "--json").stdout)
    assert {"per-task.int8", "shared.int8", "refit.int8"} <= {line["strategy"] for line in document["strategies"]}


def test_a_plot_is_written(package, tmp_path):
    said = run(0, package, "--plot", tmp_path / "ledger.svg")
    assert "ledger.svg" in said.stderr
    assert (tmp_path / "ledger.svg").read_text("utf-8").lstrip().startswith("<?xml")


def test_a_report_gives_measured_memory(package, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report_document(make_report())), "utf-8")
    document = json.loads(run(0, package, "--report", path, "--json").stdout)
    bases = {line["strategy"]: line["memory"]["basis"] for line in document["strategies"]}
    assert (bases["onnx-package"], bases["full-models"], bases["refit.fp16"]) == ("measured", "measured", "estimate")


def test_measured_memory_is_drawn_beside_measured_memory_only(package, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report_document(make_report())), "utf-8")
    ledger = ledger_from_document(json.loads(run(0, package, "--report", path, "--json").stdout))
    storage, measured, estimated = panels(ledger)
    names = [[ledger.lines[index].strategy for index, _ in panel.costs] for panel in (storage, measured, estimated)]
    assert names[1] == ["full-models", "full-graphs", "linear-probes", "onnx-package"]
    assert names[0] == names[2] == [line.strategy for line in ledger.lines]
    costs = {ledger.lines[index].strategy: cost for index, cost in estimated.costs}
    assert costs["linear-probes"].total_bytes(1) < costs["ort-adapters"].total_bytes(1)


def test_a_plot_that_fails_at_the_end_costs_no_table(package, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device", str(tmp_path / "a.png"))

    monkeypatch.setattr("mimi_edge.profiles.ledger_plot.draw_ledger", fails)
    said = run(1, package, "--plot", tmp_path / "a.png")
    assert "Storage in MB" in said.stdout
    assert "a.png" in said.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--tasks", "many"), 2, "whole numbers"),
        (("--tasks", "0"), 2, "at least 1"),
        (("--plot", "ledger.pdf"), 2, ".png or .svg"),
        (("--report", "none.json"), 4, "none.json"),
        (("--adapters", "none"), 4, "none"),
    ],
)
def test_what_makes_no_sense_is_explained(package, arguments, code, words):
    assert words in run(code, package, *arguments).stderr


def test_what_is_no_package_is_refused(tmp_path):
    run(4, tmp_path)
