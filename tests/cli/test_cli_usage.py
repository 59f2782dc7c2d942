"""What cannot work is refused with one clear error, the right exit code, and nothing left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_world import CLASSES, SMALL, Packaged, Trained, content, here, write_pictures
from PIL import Image
from typer.main import get_command

from mimi_edge.cli.app import app


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--budget-mb", "0.1", "--shiny"], "--shiny"),
        (["--budget-mb", "much"], "--budget-mb"),
        ([], "--budget-mb"),
        (["--budget-mb", "-1"], "-1"),
        (["--budget-mb", "0"], "0"),
        (["--budget-mb", "nan"], "nan"),
        (["--budget-gflops", "inf"], "inf"),
        (["--budget-mb", "0.1", "--store", "fp8"], "fp16"),
        (["--budget-mb", "0.1", "--score", "luck"], "mimi"),
        (["--budget-mb", "0.1", "--augment", "mirror"], "flip"),
        (["--budget-mb", "0.1", "--flops-count", "none"], "paper"),
        (["--budget-mb", "0.1", "--rho", "1"], "--rho"),
        (["--budget-mb", "0.1", "--epochs", "0"], "--epochs"),
        (["--budget-mb", "0.1", "--lr", "nan"], "--lr"),
        (["--budget-mb", "0.1", "--weight-decay", "nan"], "--weight-decay"),
        (["--budget-mb", "0.1", "--seed", "-1"], "--seed"),
        (["--budget-mb", "0.1", "--threads", "0"], "--threads"),
        (["--budget-mb", "0.1", "--name", "a/b"], "--name"),
        (["--budget-mb", "0.1", "--name", "checkpoint"], "--name"),
        (["--budget-mb", "0.1", "--data", "nowhere"], "nowhere"),
        (["--budget-mb", "0.1", "--data", "builtin:birds"], "builtin:digits"),
        (["--budget-mb", "0.1", "--backbone", "resnet_of_mine", "--weights", "random"], "resnet_of_mine"),
        (["--budget-mb", "0.1", "--device", "tpu9", *SMALL], "--device"),
        (["--resume", "run", "--epochs", "3"], "--epochs"),
        (["--resume", "run", "--run", "other"], "--run"),
        (["--resume", "nowhere"], "nowhere"),
    ],
)
def test_train_refuses_what_makes_no_sense(options: list[str], named: str, empty: Path) -> None:
    outcome = here("train", *options).ended(2)
    assert named in outcome.err
    assert outcome.out == ""
    assert content(empty) == {}


def test_all_faults_are_named_together(empty: Path) -> None:
    said = here("train", "--budget-mb", "0.1", "--epochs", "0", "--rho", "2", "--score", "luck").ended(2).err
    assert all(option in said for option in ("--epochs", "--rho", "--score"))


def test_a_gpu_that_is_not_there_is_refused(empty: Path, pictures: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    command = ("train", "--data", pictures, *SMALL, "--budget-mb", "0.1", "--device", "cuda")
    assert "--device cuda" in here(*command).ended(2).err
    assert content(empty) == {}


@pytest.mark.parametrize("command", ["train", "plan"])
@pytest.mark.parametrize(
    ("budget", "option"), [(("--budget-mb", "0.001"), "--budget-mb"), (("--budget-gflops", "0.01"), "--budget-gflops")]
)
def test_a_budget_that_cannot_be_met_names_the_smallest_that_can(
    command: str, budget: tuple[str, str], option: str, empty: Path, pictures: Path
) -> None:
    outcome = here(command, "--data", pictures, *SMALL, *budget).ended(3)
    assert not any(empty.iterdir())
    smallest = outcome.err.split(f"Smallest that works: {option} ")[1].split()[0].rstrip(".")
    here("plan", "--data", pictures, *SMALL, option, smallest).ended(0)


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("profile", "{package}", "--batch", "one"), "--batch"),
        (("profile", "{package}", "--batch", "0"), "0"),
        (("profile", "{package}", "--batch", ""), "--batch"),
        (("profile", "{package}", "--rounds", "0"), "--rounds"),
        (("profile", "{package}", "--task", "birds"), "birds"),
        (("profile", "{package}", "--data", "{data}", "--run", "{run}"), "--data"),
        (("profile", "{package}", "--run", "{package}"), "no run folder"),
        (("export", "{package}"), "no run folder"),
        (("export", "{run}", "--format", "tflite"), "onnx"),
        (("export", "{run}", "{run}"), "pictures"),
        (("export", "{run}", "--output", "{data}"), "not a package"),
        (("predict", "{package}"), "images"),
        (("inspect", "{data}"), "nothing that can be inspected"),
    ],
)
def test_other_commands_refuse_what_makes_no_sense(
    command: tuple[str, ...], named: str, trained: Trained, packaged: Packaged
) -> None:
    places = {"package": packaged.folder, "run": trained.run, "data": trained.data}
    outcome = here(*(part.format_map(places) for part in command)).ended(2)
    assert named.lower() in outcome.err.lower()
    assert outcome.out == ""


DAMAGES = {
    "truncated": lambda whole: whole[: len(whole) // 2],
    "empty": lambda whole: b"",
    "altered header": lambda whole: whole.replace(b'"width', b'"wodth', 1).replace(b"mimi_edge", b"mumu_edge", 1),
    "no task": lambda whole: b"\x10\x00\x00\x00\x00\x00\x00\x00" + b'{"__metadata__":',
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("command", ["inspect", "export"])
def test_a_damaged_task_file_is_rejected(command: str, damage: str, trained: Trained, empty: Path) -> None:
    damaged = empty / "task.safetensors"
    damaged.write_bytes(DAMAGES[damage](trained.task_file.read_bytes()))
    assert "task.safetensors" in here(command, damaged).ended(4).err
    assert list(content(empty)) == ["task.safetensors"]


@pytest.mark.parametrize("command", ["inspect", "export"])
def test_a_file_that_is_not_there_is_rejected(command: str, empty: Path) -> None:
    assert "gone.safetensors" in here(command, "gone.safetensors").ended(4).err
    assert content(empty) == {}


def test_a_checkpoint_is_no_task(trained: Trained) -> None:
    here("inspect", trained.run / "checkpoint.safetensors").ended(4)


@pytest.mark.parametrize("name", ["pictures.safetensors", "pictures.onnx", "backbone.weights", "manifest.json"])
def test_a_package_that_was_altered_is_rejected(
    name: str, trained: Trained, packaged: Packaged, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    shutil.copytree(packaged.folder, package)
    whole = (package / name).read_bytes()
    (package / name).write_bytes(whole[: len(whole) // 2])
    image = trained.data / "plain" / "0.png"
    for command in (("inspect", package), ("predict", package, image), ("profile", package)):
        assert str(package) in here(*command).ended(4).err.replace("\n", "")


def test_a_damaged_run_folder_is_refused(trained: Trained, tmp_path: Path) -> None:
    for name, text in (("config.json", "[1]"), ("config.json", '{"epochs": 3}'), ("split.json", "{")):
        run = tmp_path / f"{name}{len(text)}"
        shutil.copytree(trained.run, run)
        (run / "report.json").unlink()
        (run / name).write_text(text)
        assert run.name in here("train", "--resume", run).ended(2).err
        assert run.name in here("export", run, "--output", tmp_path / "package").ended(2).err


def test_an_altered_checkpoint_is_rejected(trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.run, run)
    (run / "report.json").unlink()
    whole = (run / "checkpoint.safetensors").read_bytes()
    (run / "checkpoint.safetensors").write_bytes(whole[:-100])
    assert "checkpoint.safetensors" in here("train", "--resume", run).ended(4).err


def test_a_run_that_is_not_finished_is_not_exported(trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.run, run)
    (run / "pictures.safetensors").unlink()
    assert f"--resume {run}" in here("export", run, "--output", tmp_path / "package").ended(2).err


def test_a_run_folder_is_used_once(trained: Trained) -> None:
    before = content(trained.run)
    assert "--resume" in here("train", *trained.options, "--run", trained.run).ended(2).err
    assert content(trained.run) == before


def test_a_finished_run_is_reported_again(trained: Trained) -> None:
    before = content(trained.run)
    again = here("train", "--resume", trained.run, "--json").ended(0)
    assert again.document == trained.outcome.document
    assert "is finished" in again.err
    assert f"{trained.outcome.document['size_bytes']:,} bytes" in here("train", "--resume", trained.run).ended(0).out
    assert content(trained.run) == before


def test_runs_without_a_folder_get_the_next_free_one(trained: Trained, empty: Path) -> None:
    for expected in ("pictures", "pictures-2"):
        report = here("train", *trained.options, "--json").ended(0).document
        assert Path(report["task_file"]) == Path("runs") / expected / "pictures.safetensors"


def _with_bad_image(folder: Path, name: str = "bad[0].png") -> Path:
    data = write_pictures(folder / "data")
    whole = (data / CLASSES[0] / "0.png").read_bytes()
    (data / CLASSES[0] / name).write_bytes(whole[: len(whole) // 2])
    return data


def test_a_bad_image_is_named_and_the_same_folder_can_be_used_then(empty: Path) -> None:
    data = _with_bad_image(empty)
    command = ("train", "--data", data, *SMALL, "--budget-mb", "0.1", "--run", "run")
    refused = here(*command).ended(2)
    assert f"{CLASSES[0]}/bad[0].png" in refused.err
    assert "--skip-bad-images" in refused.err
    assert not Path("run").exists()
    outcome = here(*command, "--skip-bad-images", "--json").ended(0)
    assert "bad[0].png" in outcome.err
    counted = here("plan", "--data", data, *SMALL, "--budget-mb", "0.1", "--json").ended(0).document["images"]
    assert sum(counted.values()) == 25
    assert outcome.document["size_bytes"] == Path("run/data.safetensors").stat().st_size


def _sixteen_bit(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path)


def test_images_of_all_kinds_are_used(empty: Path) -> None:
    kinds = {"L": "png", "P": "png", "RGBA": "png", "LA": "png", "CMYK": "jpg", "1": "png"}
    for name in ("left", "right"):
        folder = empty / "data" / name
        folder.mkdir(parents=True)
        pixels = np.full((16, 16, 3), 200 if name == "left" else 20, np.uint8)
        for index, (mode, suffix) in enumerate(kinds.items()):
            Image.fromarray(pixels).convert(mode).save(folder / f"{index}.{suffix}")
        _sixteen_bit(folder / "deep.png", pixels)
    report = here("train", "--data", "data", *SMALL, "--budget-mb", "0.1", "--json").ended(0).document
    assert report["accuracy"]["test"]["images"] == 2


def test_one_class_is_refused(empty: Path) -> None:
    write_pictures(empty / "data", classes=["only"])
    said = here("train", "--data", "data", *SMALL, "--budget-mb", "0.1").ended(2).err
    assert "only" in said


def test_an_empty_class_is_refused(empty: Path) -> None:
    write_pictures(empty / "data")
    (empty / "data" / "[nothing]").mkdir()
    assert "[nothing]" in here("train", "--data", "data", *SMALL, "--budget-mb", "0.1").ended(2).err


def test_classes_that_differ_between_splits_are_refused(empty: Path) -> None:
    write_pictures(empty / "data" / "train")
    write_pictures(empty / "data" / "test", classes=CLASSES[:2])
    said = here("train", "--data", "data", *SMALL, "--budget-mb", "0.1").ended(2).err
    assert "test/" in said
    assert CLASSES[2] in said


@pytest.mark.parametrize("command", [[], *([name] for name in sorted(get_command(app).commands))])
def test_help_shows_no_type_beside_a_flag(command: list[str]) -> None:
    shown = here(*command, "--help").ended(0).out
    assert "--help" in shown
    assert "bool" not in shown
