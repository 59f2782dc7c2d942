"""What each command needs: the parts that are missing are named, and help needs next to nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import CLASSES, SMALL, Packaged, Trained, apart, here
from typer.main import get_command

from mimi_edge.choices import SCORE_NAMES
from mimi_edge.cli.app import app
from mimi_edge.parts import CPU, TRAIN, install_line
from mimi_edge.scores import SCORES

COMMANDS = (
    "train",
    "plan",
    "runs",
    "backbones",
    "export",
    "predict",
    "profile",
    "compare",
    "compare-reports",
    "ledger",
    "inspect",
    "devices",
    "cache",
    "doctor",
    "pack",
    "verify",
    "install-task",
)
TRAINING = ("torch", "torchvision", "timm", "onnxscript", "matplotlib")
NOT_FOR_HELP = ("numpy", "PIL", "safetensors", "yaml", "onnx", "onnx_ir", "onnxruntime", "matplotlib", "torch", "timm")

WHAT_HELP_LOADS = """
import json, sys
from mimi_edge.cli.app import app
try:
    app(json.loads(sys.argv[1]))
except SystemExit:
    pass
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["inspect", "-h"], ["--version"]])
def test_help_loads_no_library_that_works(arguments: list[str]) -> None:
    command = [sys.executable, "-c", WHAT_HELP_LOADS, json.dumps(arguments)]
    loaded = set(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stderr))
    assert "typer" in loaded
    assert loaded.isdisjoint(NOT_FOR_HELP)


@pytest.mark.parametrize("arguments", [[], *([command] for command in COMMANDS)])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_everywhere(arguments: list[str], option: str) -> None:
    said = here(*arguments, option).ended(0).out
    assert "Usage: mimi-edge" in said
    assert "Show this message" in said


def test_every_option_says_what_it_is() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert set(commands) == set(COMMANDS)
    silent = [
        f"{name} {parameter.name}"
        for name, command in commands.items()
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert silent == []


def test_no_default_is_lost_in_markup() -> None:
    said = here("train", "--help").ended(0).out
    assert "that of the data" in said
    assert "runs/NAME" in said
    assert "Name of the task." in said
    assert "task ." not in said


def test_completion_offers_the_commands(tmp_path: Path) -> None:
    variables = {"_MIMI_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": "mimi-edge pr", "COMP_CWORD": "1"}
    program = "import sys; sys.argv[0] = 'mimi-edge'; from mimi_edge.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["profile", "predict"]


def test_the_names_of_the_scores_are_those_that_there_are() -> None:
    assert set(SCORE_NAMES) == set(SCORES)


@pytest.mark.parametrize("command", ["train", "plan"])
def test_training_without_torch_names_the_line_that_installs_it(command: str, pictures: Path, tmp_path: Path) -> None:
    arguments = (command, "--data", pictures, *SMALL, "--budget-mb", "0.1")
    outcome = apart(*arguments, folder=tmp_path, missing=TRAINING).ended(1)
    assert install_line(TRAIN) in outcome.err
    assert outcome.out == ""
    assert [path.name for path in tmp_path.iterdir()] == [".hooks"]


def test_profile_and_predict_without_a_runtime_name_the_line(
    trained: Trained, packaged: Packaged, tmp_path: Path
) -> None:
    for arguments in (("profile", packaged.folder), ("predict", packaged.folder, trained.data / "plain" / "0.png")):
        outcome = apart(*arguments, folder=tmp_path, missing=("onnxruntime",)).ended(1)
        assert install_line(CPU) in outcome.err


def test_a_device_without_torch_predicts_profiles_inspects_and_adds_tasks(
    trained: Trained, packaged: Packaged, tmp_path: Path
) -> None:
    def on_device(*arguments: str | Path) -> dict[str, object]:
        document = apart(*arguments, "--json", folder=tmp_path, missing=TRAINING).ended(0).document
        assert isinstance(document, dict)
        return document

    image = trained.data / "plain" / "0.png"
    (prediction,) = on_device("predict", packaged.folder, image)["predictions"]  # type: ignore[misc]
    assert prediction["label"] in CLASSES
    assert on_device("profile", packaged.folder, "--run", trained.run, "--rounds", "2")["artefacts"]
    assert on_device("inspect", trained.run)["finished"]
    made = on_device("export", trained.run, "--backbone-graph", packaged.folder, "--output", "package")
    check = made["tasks"]["pictures"]["check"]  # type: ignore[index]
    assert check["outputs"]["same_top1"] == check["outputs"]["images"] == 3  # as torch answered in training
    assert check["accuracy"]["images"] == 3
    on_device("export", trained.run, "--output", "package")


def test_exporting_a_backbone_without_torch_says_what_to_do(trained: Trained, tmp_path: Path) -> None:
    outcome = apart("export", trained.run, folder=tmp_path, missing=TRAINING).ended(1)
    assert install_line(TRAIN) in outcome.err
    assert "--backbone-graph" in outcome.err
    assert not (tmp_path / "package").exists()
