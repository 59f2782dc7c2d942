"""`mimi-edge compare-reports` in this process."""

import json

import pytest
from report_samples import make_backbone, make_environment, make_failed, make_report, make_task
from typer.testing import CliRunner

from mimi_edge.cli.app import app
from mimi_edge.errors import GateError
from mimi_edge.profiles.rendering.formats import write_report


@pytest.fixture
def written(tmp_path):
    def write(name, report):
        write_report(report, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def base(written):
    return written("a.json", make_report(tasks=("digits",)))


@pytest.fixture
def slower(written):
    artefacts = (make_backbone((1, 8)), make_task("digits", (1, 8), slower=1.5))
    return written("b.json", make_report(artefacts=artefacts))


def run(code, *arguments):
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["compare-reports", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_ratios_are_shown_with_intervals(base, slower):
    said = run(0, base, slower).stdout
    assert "B / A" in said
    assert "1.4" in said
    assert " to " in said
    assert "accuracy drop" in said


def test_a_gate_has_an_exit_code_of_its_own(base, slower):
    assert GateError.exit_code == 6
    broken = run(6, base, slower, "--fail-if", "latency_p50>1.05", "--fail-if", "storage>1")
    assert "digits, batch 1" in broken.stderr
    assert "digits, batch 8" in broken.stderr
    assert "storage" not in broken.stderr
    assert "broken" in broken.stdout
    assert "holds for all 2" in broken.stdout
    run(0, base, base, "--fail-if", "latency_p50>1.05", "--fail-if", "latency_p99>1.5", "--fail-if", "memory>1")
    run(0, slower, base, "--fail-if", "latency_p50>1.05")


def test_json_has_changes_and_gates_even_where_a_limit_is_broken(base, slower):
    document = json.loads(run(6, base, slower, "--fail-if", "latency_mean>1.1", "--json").stdout)
    assert [gate["limit"] for gate in document["gates"]] == ["latency_mean>1.1"]
    assert len(document["gates"][0]["broken"]) == 2
    assert {change["metric"] for change in document["changes"]} >= {"latency_p50", "latency_p99", "memory", "storage"}


def test_noise_breaks_a_limit_only_if_it_is_strict(base, written):
    artefacts = (make_backbone((1, 8)), make_task("digits", (1, 8), slower=1.021))
    other = written("c.json", make_report(artefacts=artefacts))
    limit = ("--fail-if", "latency_p99>1.0")
    assert "the samples do not tell" in run(0, base, other, *limit).stdout
    run(6, base, other, *limit, "--strict")


def test_different_conditions_are_refused_unless_forced(base, written):
    other = written("b.json", make_report(tasks=("digits",), environment=make_environment(threads=1)))
    refused = run(2, base, other)
    assert "threads: 4 | 1" in refused.stderr
    assert refused.stdout == ""
    forced = run(0, base, other, "--force")
    assert "Conditions" in forced.stdout
    assert "threads" in forced.stdout
    assert "do not tell what changed" in forced.stderr


def test_a_task_that_died_in_b_breaks_every_limit(base, written):
    other = written("b.json", make_report(artefacts=(make_backbone((1, 8)), make_failed("digits"))))
    said = run(6, base, other, "--fail-if", "latency_p50>9")
    assert "B: digits failed" in said.stderr
    assert "Only in A: digits, batch 1, digits, batch 8." in said.stderr


@pytest.mark.parametrize(
    ("limit", "words"), [("latency>1", "METRIC>NUMBER"), ("joules>1", "Nothing to hold against joules>1")]
)
def test_limits_that_make_no_sense_are_refused(base, limit, words):
    assert words in run(2, base, base, "--fail-if", limit).stderr


def test_what_is_no_report_is_refused(base, tmp_path):
    (tmp_path / "no.json").write_text("{}")
    run(4, base, tmp_path / "no.json")
    run(4, tmp_path / "missing.json", base)


def test_exit_codes_are_in_the_help():
    said = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["--help"]).stdout
    assert "6 a limit of compare-reports broken" in said
