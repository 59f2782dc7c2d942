"""`mimi-edge devices` in this process."""

import json

import pytest
from test_read_device import GOOD
from tiny_package import make_package
from typer.testing import CliRunner

from mimi_edge.cli.app import app
from mimi_edge.profiles.devices.catalogue import VARIABLE, all_devices


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "own"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return make_package(tmp_path_factory.mktemp("package"), {"first": (2, 3, 1), "second": (0, 1, 0)}).folder


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


def run(code, *arguments):
    result = CliRunner().invoke(app, ["devices", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_all_are_listed_and_one_is_shown_with_its_sources():
    assert "jetson-orin-nano-8gb" in run(0).stdout
    shown = run(0, "jetson-orin-nx-16gb").stdout
    for words in ("1.88 TFLOPS", "assumed", "JetPack 6.2", "DS-10712-001", "shared by CPU and GPU"):
        assert words in shown
    document = json.loads(run(0, "t4", "--json").stdout)
    assert document["memory_bytes_per_s"] == 320e9


def test_estimates_are_labelled_and_name_the_bound(package):
    result = run(0, "--estimate", package, "--task", "first", "--device", "t4", "--device", "cpu", "--batch", "1,8")
    assert "ESTIMATES" in result.stdout
    assert "nothing was measured" in result.stdout
    assert "No estimate for cpu: no fp16 figure" in result.stderr
    document = json.loads(run(0, "--estimate", package, "--device", "t4", "--batch", "1,8", "--json").stdout)
    assert document["label"] == "estimate"
    assert {entry["label"] for entry in document["estimates"]} == {"estimate"}
    assert [entry["batch"] for entry in document["estimates"]] == [1, 8]
    assert {entry["bound"] for entry in document["estimates"]} <= {"compute", "bandwidth", "launch"}


@pytest.mark.parametrize("arguments", [(), ("--estimate", "{package}")])
def test_names_that_one_must_type_are_whole_at_80_columns(arguments, package, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("mimi_edge.cli.output.NARROWEST", 80)
    said = run(0, *(argument.format(package=package) for argument in arguments)).stdout
    names = {line.split()[0] for line in said.splitlines() if line.strip()}
    assert {name for name in all_devices() if name != "cpu"} <= names
    assert max(map(len, said.splitlines())) <= 80


def test_devices_that_an_estimate_cannot_tell_apart_are_named(package):
    chosen = [part for name in ("t4", "rtx-3070", "h100-sxm") for part in ("--device", name)]
    result = run(0, "--estimate", package, *chosen)
    document = json.loads(run(0, "--estimate", package, *chosen, "--json").stdout)
    assert document["not_told_apart"] == [["t4", "rtx-3070", "h100-sxm"]]
    assert "t4, rtx-3070, h100-sxm are not told apart at batch 1" in result.stderr.replace("\n", " ")
    alone = json.loads(run(0, "--estimate", package, "--device", "t4", "--json").stdout)
    assert alone["not_told_apart"] == []


def test_a_package_of_several_tasks_is_estimated_bare_unless_one_is_chosen(package):
    bare = json.loads(run(0, "--estimate", package, "--device", "t4", "--json").stdout)
    task = json.loads(run(0, "--estimate", package, "--task", "first", "--device", "t4", "--json").stdout)
    graph = json.loads(run(0, "--estimate", package / "backbone.onnx", "--device", "t4", "--json").stdout)
    assert bare["work"] == graph["work"]
    assert task["work"][0]["flops"] > bare["work"][0]["flops"]


def test_the_error_is_printed_where_it_was_measured(package):
    arguments = ("--estimate", package, "--device", "cpu", "--precision", "fp32", "--measured-ms", "10")
    assert "measured 10 ms" in run(0, *arguments).stdout
    measured = json.loads(run(0, *arguments, "--json").stdout)["measured"]
    assert -1 < measured["relative"] < 0


def test_own_files_are_checked_used_and_kept(good, package, own):
    assert "My board" in run(0, "--file", good).stdout
    assert not own.exists()
    assert "my-board" in run(0, "--file", good, "--estimate", package, "--precision", "fp32").stdout
    run(0, "--file", good, "--add")
    assert "my-board" in run(0).stdout
    assert "'my-board' already" in run(2, "--file", good, "--add").stderr


def test_a_file_with_faults_is_refused_with_all_of_them(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(GOOD.replace("8 GiB", "8").replace("kind: gpu", "kind: car"))
    told = run(2, "--file", bad).stderr
    assert "memory: no unit" in told
    assert "kind: expected one of" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("orin-nano",), "Did you mean"),
        (("--add",), "Add --file FILE"),
        (("--estimate", "{package}", "--batch", "0"), "--batch"),
        (("--estimate", "{package}", "--batch", "1,x"), "--batch"),
        (("--estimate", "{package}", "--precision", "fp4"), "--precision is one of"),
        (("--estimate", "{package}", "--precision", "bf16", "--device", "t4"), "no bf16 figure"),
        (("--estimate", "{package}", "--measured-ms", "5"), "--measured-ms belongs to one device"),
        (("--estimate", "{package}", "--device", "t4", "--measured-ms", "-5"), "positive"),
        (("--estimate", "{package}", "--task", "third"), "third"),
        (("--estimate", "{package}/backbone.onnx", "--task", "first"), "--task chooses from a package"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, told, package):
    result = run(2, *(argument.format(package=package) for argument in arguments))
    assert told in result.stderr.replace("\n", " ")


def test_a_damaged_package_is_rejected(tmp_path):
    (tmp_path / "empty").mkdir()
    run(4, "--estimate", tmp_path / "empty")
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    run(4, "--estimate", tmp_path / "no.onnx", "--device", "t4")
