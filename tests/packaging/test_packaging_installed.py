"""The wheel at work in environments of its own: a training server's, and a device's that has no torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from installed_environments import Environment, attempt
from PIL import Image

pytestmark = pytest.mark.slow

BUDGET_MB = 0.5


def train_command(tmp: Path) -> list[str | Path]:
    """The smallest training there is of the built-in demonstration, on a few of its images."""
    few = ["--epochs", "1", "--start-ratio", "2", "--train-images", "128", "--val-images", "64"]
    return ["train", "--budget-mb", str(BUDGET_MB), *few, "--run", tmp / "run"]


def export_command(tmp: Path) -> list[str | Path]:
    """From a finished run to a package folder."""
    return ["export", tmp / "run", "--format", "onnx", "--output", tmp / "package"]


def merge_command(tmp: Path, backbone_graph: Path, output: Path) -> list[str | Path]:
    """The same from a backbone graph that was exported elsewhere: needs no torch."""
    return ["export", tmp / "run", "--format", "onnx", "--backbone-graph", backbone_graph, "--output", output]


def profile_command(tmp: Path) -> list[str | Path]:
    """Measures the package, quickly; the result is JSON on stdout."""
    return ["profile", tmp / "package", "--run", tmp / "run", "--rounds", "3", "--processes", "1", "--json"]


def demo_commands(tmp: Path) -> Sequence[list[str | Path]]:
    """What `make demo` runs, made tiny: train, export, profile."""
    return train_command(tmp), export_command(tmp), profile_command(tmp)


@dataclass(frozen=True)
class Demonstration:
    """What the three commands left in a folder (run, package and cached backbone graph), and what they printed."""

    folder: Path
    printed: tuple[str, ...] = ()

    @property
    def cache(self) -> str:
        """The folder of backbone graphs, as the environment variable wants it."""
        return str(self.folder / "cache")

    @property
    def package(self) -> Path:
        """The package folder."""
        return self.folder / "package"

    @property
    def task_file(self) -> Path:
        """The finished task: the file of the run that the package holds too."""
        (task,) = (path for path in (self.folder / "run").glob("*.safetensors") if (self.package / path.name).exists())
        return task


def _demonstrated(environment: Environment, folder: Path) -> Demonstration:
    demonstration = Demonstration(folder)
    printed = [
        environment.mimi_edge(*command, cwd=folder, MIMI_EDGE_CACHE=demonstration.cache).stdout
        for command in demo_commands(folder)
    ]
    return Demonstration(folder, tuple(printed))


@pytest.fixture(scope="module")
def demonstration(training_environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    """Made on the training server."""
    return _demonstrated(training_environment, tmp_path_factory.mktemp("demonstration"))


@pytest.fixture
def carried(demonstration: Demonstration, tmp_path: Path) -> Demonstration:
    """The run, the package and the cache as they arrive on a device: copied into another folder."""
    for name in ("run", "cache", "package"):
        shutil.copytree(demonstration.folder / name, tmp_path / name)
    return Demonstration(tmp_path)


def _files_at_the_top(environment: Environment) -> set[str]:
    """Top-level names in site-packages that the wheel's own record lists."""
    (record,) = environment.site_packages.glob("mimi_edge-*.dist-info/RECORD")
    paths = [line.rsplit(",", 2)[0] for line in record.read_text().splitlines()]
    return {path.split("/")[0] for path in paths if not path.startswith("../")}


def test_help_answers_where_only_the_wheel_is(training_environment: Environment, tmp_path: Path) -> None:
    shown = training_environment.mimi_edge("--help", cwd=tmp_path).stdout
    for command in ("train", "export", "profile", "plan", "inspect", "predict"):
        assert command in shown


def test_only_one_name_is_added_to_site_packages(training_environment: Environment) -> None:
    names = _files_at_the_top(training_environment)
    assert {name for name in names if not name.endswith(".dist-info")} == {"mimi_edge"}
    assert not training_environment.can_import("cli")
    assert training_environment.can_import("mimi_edge.cli")


def test_what_is_installed_is_what_the_constraints_say(training_environment: Environment, repository: Path) -> None:
    pinned = {line.split("==")[0] for line in (repository / "constraints.txt").read_text().splitlines() if "==" in line}
    installed = {
        folder.name.split("-")[0].lower().replace("_", "-").replace(".", "-")
        for folder in training_environment.site_packages.glob("*.dist-info")
    }
    assert {"torch", "onnxruntime"} <= installed
    assert installed - pinned - {"mimi-edge", "pip", "setuptools"} == set()


def test_train_export_and_profile_run_there(demonstration: Demonstration) -> None:
    assert 0 < demonstration.task_file.stat().st_size <= BUDGET_MB * 1000**2
    assert list((demonstration.package).glob("*.onnx"))
    assert json.loads(demonstration.printed[-1])


def test_the_device_has_no_torch(device_environment: Environment) -> None:
    assert device_environment.can_import("onnxruntime")
    assert [name for name in ("torch", "torchvision", "timm") if device_environment.can_import(name)] == []


def test_a_device_merges_a_task_into_a_backbone_graph(device_environment: Environment, carried: Demonstration) -> None:
    (backbone_graph,) = Path(carried.cache).rglob("backbone.onnx")
    output = carried.folder / "merged-here"
    device_environment.mimi_edge(*merge_command(carried.folder, backbone_graph.parent, output), cwd=carried.folder)
    trained, merged = ({path.name: path.read_bytes() for path in at.glob("*.onnx")} for at in (carried.package, output))
    assert len(merged) == 2
    assert merged == trained


def test_a_device_classifies_images(device_environment: Environment, carried: Demonstration) -> None:
    image = carried.folder / "image.png"
    Image.new("L", (8, 8), 200).save(image)
    shown = device_environment.mimi_edge("predict", carried.package, image, "--json", cwd=carried.folder).stdout
    (prediction,) = json.loads(shown)["predictions"]
    assert prediction["path"] == str(image)
    assert 0 < prediction["probability"] <= 1


def test_a_device_inspects_whatever_it_was_given(device_environment: Environment, carried: Demonstration) -> None:
    graph = next(path for path in carried.package.glob("*.onnx") if path.name != "backbone.onnx")
    kinds = [
        json.loads(device_environment.mimi_edge("inspect", thing, "--json", cwd=carried.folder).stdout)["kind"]
        for thing in (carried.task_file, carried.package, graph, carried.folder / "run")
    ]
    assert kinds == ["task", "package", "graph", "run"]


def test_a_device_does_all_that_needs_no_training(device_environment: Environment, carried: Demonstration) -> None:
    """Python 3.10 where there is one, numpy and one runtime: no torch, timm or matplotlib."""
    here = carried.folder
    assert [name for name in ("torch", "timm", "matplotlib") if device_environment.can_import(name)] == []
    for command in (
        ("doctor", "--json"),
        ("devices", "--estimate", carried.package, "--json"),
        ("ledger", carried.package, "--json"),
        (*profile_command(here), "--report", here / "a.json", "--report", here / "a.html"),
        ("compare-reports", here / "a.json", here / "a.json", "--fail-if", "latency_p50>1.05"),
        ("export", carried.package, "--format", "ort-adapter", "--output", here / "adapters"),
        ("pack", carried.package, "--output", here / "all.mimi"),
        ("verify", here / "all.mimi"),
        ("install-task", here / "all.mimi", here / "installed"),
        ("inspect", here / "installed"),
    ):
        shown = device_environment.mimi_edge(*command, cwd=here, MIMI_EDGE_CACHE=carried.cache).stdout
        assert "--json" not in command or json.loads(shown)
    page = (here / "a.html").read_text("utf-8")
    assert "<table" in page
    assert "<svg" not in page, "charts need matplotlib"
    assert ".whl[report]&quot;" in page, "what installs it here is said in their place"


def test_training_on_a_device_names_the_line_that_installs_it(
    device_environment: Environment, carried: Demonstration
) -> None:
    program = device_environment.folder / "bin" / "mimi-edge"
    done = attempt([program, *train_command(carried.folder / "new")], cwd=carried.folder)
    assert done.returncode == 1
    # The line is for how this copy was installed: from its wheel.
    assert 'pip install "' in done.stderr
    assert '.whl[train]"' in done.stderr
    assert "Traceback" not in done.stderr
