"""Interrupted runs: they go on where they were, and end with the same bytes."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from full_disk import room_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training_samples import adapted_model, randomised, small_config, tiny_backbone

from mimi_edge.choices import Scope
from mimi_edge.errors import ArtifactError, ConfigError, StoppedError
from mimi_edge.methods import mimi
from mimi_edge.methods.description import Description
from mimi_edge.tasks.files import read_task
from mimi_edge.training import devices
from mimi_edge.training.backbones import LoadedBackbone
from mimi_edge.training.batches import Place
from mimi_edge.training.checkpoints import _KEY, _SHA256, NAME, _content_sha256, load_checkpoint, save_checkpoint
from mimi_edge.training.config import TrainingConfig, run_files
from mimi_edge.training.loop import Progress, make_optimizer
from mimi_edge.training.recipes import PAPER, RECIPES
from mimi_edge.training.reports import finished_report
from mimi_edge.training.runs import TrainingReport, resume_training, run_training

CPU = torch.device("cpu")
STEPS_A_TRAINING = 8
"""32 images in batches of 8, two epochs."""


def beginning(backbone: LoadedBackbone) -> Description:
    """What a run of MiMi begins with."""
    return mimi.describe(backbone.network, mimi.MimiSettings())


def after(steps: int) -> Callable[[], bool]:
    """Asks to stop after so many steps."""
    left = iter(range(steps - 1))
    return lambda: next(left, None) is None


def written(report: TrainingReport) -> dict[str, object]:
    """What its file says, but for the time that it took and where it is."""
    document = json.loads((report.task_file.parent / "report.json").read_text(encoding="utf-8"))
    return {name: value for name, value in document.items() if name not in ("seconds", "task_file")}


def stopped(config: TrainingConfig, folder: Path, steps: int) -> Path:
    with pytest.raises(StoppedError, match=f"--resume .*{folder.name}"):
        run_training(config, folder, should_stop=after(steps))
    assert not (folder / "task.safetensors").exists()
    return folder


def alter_progress(path: Path, **changes: object) -> None:
    """Changes entries of what a checkpoint says of the progress; None takes one out, and the losses with it."""
    tensors = load_file(path)
    with safe_open(path, "pt") as opened:
        document = json.loads(opened.metadata()[_KEY])
    document = {name: value for name, value in (document | changes).items() if value is not None}
    if "loss_steps" not in document:
        del tensors["loss/sum"]
    text = json.dumps(document)
    save_file(tensors, path, {_KEY: text, _SHA256: _content_sha256(tensors, text)})


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(1, id="after the first step"),
        pytest.param(3, id="in the middle of an epoch"),
        pytest.param(4, id="between epochs"),
        pytest.param(STEPS_A_TRAINING, id="just before a pruning"),
        pytest.param(STEPS_A_TRAINING + 1, id="just after a pruning"),
        pytest.param(2 * STEPS_A_TRAINING + 6, id="in a later training"),
    ],
)
def test_a_stopped_run_ends_with_the_same_bytes(
    finished: TrainingReport, pictures: Path, tmp_path: Path, steps: int
) -> None:
    report = resume_training(stopped(small_config(pictures), tmp_path / "run", steps))
    assert report.task_file.read_bytes() == finished.task_file.read_bytes()
    assert replace(report, task_file=finished.task_file, seconds=finished.seconds) == finished
    assert written(report) == written(finished)


def test_a_run_may_be_stopped_again_and_again(finished: TrainingReport, pictures: Path, tmp_path: Path) -> None:
    folder, times = stopped(small_config(pictures), tmp_path / "run", 5), 1
    while True:
        try:
            report = resume_training(folder, should_stop=after(5))
            break
        except StoppedError:
            times += 1
    assert times >= 4
    assert report.task_file.read_bytes() == finished.task_file.read_bytes()


def test_the_time_of_all_sittings_is_reported(pictures: Path, tmp_path: Path) -> None:
    folder = stopped(small_config(pictures), tmp_path / "run", 3)
    alter_progress(folder / NAME, seconds=1000)
    assert 1000 < resume_training(folder).seconds < 2000


def test_another_number_of_threads_is_noted(pictures: Path, tmp_path: Path) -> None:
    folder = stopped(small_config(pictures), tmp_path / "run", 3)
    known, said = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        report = resume_training(folder, listener=lambda event: said.append(getattr(event, "text", "")))
    finally:
        torch.set_num_threads(known)
    assert report.threads == (known, 2)
    assert written(report)["threads"] == [known, 2]
    assert [text for text in said if f"--threads {known}" in text]


def test_another_precision_is_noted(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_fast_bf16", lambda device: True)
    folder, said = stopped(small_config(pictures, precision="auto"), tmp_path / "run", 3), []
    monkeypatch.setattr(devices, "has_fast_bf16", lambda device: False)
    report = resume_training(folder, listener=lambda event: said.append(getattr(event, "text", "")))
    assert report.computed_in == ("bf16 on cpu", "fp32 on cpu")
    assert written(report)["computed_in"] == ["bf16 on cpu", "fp32 on cpu"]
    assert [text for text in said if "begun in bf16 on cpu and goes on in fp32 on cpu" in text]


def test_what_was_computed_in_is_that_of_the_training(pictures: Path, tmp_path: Path) -> None:
    for precision in ("fp32", "bf16"):
        report = run_training(small_config(pictures, precision=precision), tmp_path / precision)
        assert report.computed_in == (f"{precision} on cpu",)


def test_a_checkpoint_of_the_first_release_goes_on(finished: TrainingReport, pictures: Path, tmp_path: Path) -> None:
    folder = stopped(small_config(pictures), tmp_path / "run", 3)
    alter_progress(folder / NAME, loss_steps=None, seconds=None, threads=None, computed_in=None)
    assert resume_training(folder).task_file.read_bytes() == finished.task_file.read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"score": "snip"},
        {"score": "grasp"},
        {"score": "l1-activations"},
        {"score": "l1-gradients", "augment": "flip+shift"},
        {"score": "random"},
        {"scope": Scope.STAGES, "stage_shares": (1.0, 3.0)},
        {"one_shot": True},
        {"augment": "flip+shift"},
        {**RECIPES[PAPER], "epochs": 2, "warm_up_epochs": 1, "batch_size": 8},
        {"balance": True},
    ],
)
def test_what_is_drawn_or_gathered_does_not_depend_on_interruptions(
    pictures: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    config = small_config(pictures, **changes)
    whole = run_training(config, tmp_path / "whole")
    report = resume_training(stopped(config, tmp_path / "run", STEPS_A_TRAINING))
    assert report.task_file.read_bytes() == whole.task_file.read_bytes()


def test_a_run_that_lost_its_task_file_makes_it_again(finished: TrainingReport, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.task_file.parent, folder)
    expected = (folder / "task.safetensors").read_bytes()
    (folder / "task.safetensors").unlink()
    assert resume_training(folder).task_file.read_bytes() == expected


def test_a_finished_run_is_reported_again_and_not_touched(finished: TrainingReport, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.task_file.parent, folder)

    def files() -> dict[Path, tuple[bytes, int]]:
        found = (path for path in folder.rglob("*") if path.is_file())
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}

    before = files()
    said: list[object] = []
    report = resume_training(folder, listener=said.append)
    assert report == replace(finished, task_file=folder / "task.safetensors", seconds=round(finished.seconds, 1))
    assert [event.text for event in said if "is finished" in event.text] == [event.text for event in said]
    assert files() == before


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"budget": 3}', "[" * 100_000])
def test_a_report_that_cannot_be_read_is_written_anew(finished: TrainingReport, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.task_file.parent, folder)
    (folder / "report.json").write_text(damage)
    assert resume_training(folder).accuracy == finished.accuracy
    assert finished_report(folder, "task") is not None


def test_neurons_to_start_with_are_remembered(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run_training(small_config(pictures), tmp_path / "run", start={"blocks.1.mlp": 2}, should_stop=after(1))
    assert read_task(resume_training(tmp_path / "run").task_file).neurons == {"blocks.1.mlp": 2}


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(pictures: Path, tmp_path: Path) -> None:
    program = Path(__file__).with_name("killed_runs.py")
    seed = int.from_bytes(tmp_path.name.encode()[-2:], "little")
    answer = subprocess.run(
        [sys.executable, str(program), str(pictures), str(tmp_path), str(seed)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout.splitlines()[-1])
    assert said["whole"], answer.stderr
    assert said["ended"], answer.stderr
    assert sum(place is not None for place in said["places"]) >= 2, said
    assert set(said["files"]) <= {*run_files("task"), "rounds"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for name in ("task.safetensors", *round_names(whole)):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), said
    assert round_names(killed) == round_names(whole) != []
    assert epochs_logged(killed) == epochs_logged(whole)


def round_names(folder: Path) -> list[str]:
    """Of the tasks that were kept after each training; nothing else lies beside them."""
    return sorted(str(path.relative_to(folder)) for path in (folder / "rounds").iterdir())


def epochs_logged(folder: Path) -> list[list[str]]:
    """The lines of the log, without the seconds."""
    rows = list(csv.reader((folder / "log.csv").read_text("utf-8").splitlines()))
    left_out = rows[0].index("seconds")
    return [row[:left_out] + row[left_out + 1 :] for row in rows]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run"):
        resume_training(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"budget": 3}', "\x00"])
@pytest.mark.parametrize("name", ["config.json", "split.json"])
def test_a_damaged_run_folder_is_one_clear_error(pictures: Path, tmp_path: Path, name: str, content: str) -> None:
    folder = stopped(small_config(pictures), tmp_path / "run", 1)
    (folder / name).write_text(content)
    with pytest.raises(ConfigError):
        resume_training(folder)


def test_images_that_are_gone_are_named(pictures: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    folder = stopped(small_config(data), tmp_path / "run", 1)
    (data / "train" / "red" / "3.png").unlink()
    with pytest.raises(ConfigError, match=r"train/red/3\.png"):
        resume_training(folder)


@pytest.fixture(scope="module")
def backbone_() -> LoadedBackbone:
    return tiny_backbone("vit")


@pytest.fixture(scope="module")
def checkpoint(backbone_: LoadedBackbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a small model that took a step."""
    path = tmp_path_factory.mktemp("checkpoint") / NAME
    model = randomised(adapted_model(backbone_, {"blocks.1.attn": 2}, 2))
    model.release()
    optimizer = make_optimizer(model, config())
    for parameter in model.trained_parameters().values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    save_checkpoint(path, model, optimizer, Progress(Place(1, 2, 3), [{"round": 0, "loss": 0.1}], []))
    return path


def config() -> TrainingConfig:
    return small_config(Path("nowhere"))


def assert_damaged(path: Path, content: bytes, backbone: LoadedBackbone) -> None:
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="Delete it to train from the beginning") as refused:
        load_checkpoint(path, backbone, beginning(backbone), 2, config(), CPU)
    assert str(path) in str(refused.value)


def test_a_checkpoint_holds_weights_moments_and_place(checkpoint: Path, backbone_: LoadedBackbone) -> None:
    model, optimizer, progress = load_checkpoint(checkpoint, backbone_, beginning(backbone_), 2, config(), CPU)
    model.release()
    assert progress == Progress(Place(1, 2, 3), [{"round": 0, "loss": 0.1}], [])
    for parameter in model.trained_parameters().values():
        state = optimizer.state[parameter]
        assert float(state["step"]) == 1
        torch.testing.assert_close(state["exp_avg"], torch.full_like(parameter, 0.1))
        torch.testing.assert_close(state["exp_avg_sq"], torch.full_like(parameter, 0.001))


one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@one_folder
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_checkpoint_is_refused(
    checkpoint: Path, backbone_: LoadedBackbone, tmp_path: Path, share: float
) -> None:
    content = checkpoint.read_bytes()
    assert_damaged(tmp_path / NAME, content[: int(share * len(content))], backbone_)


@settings(one_folder, max_examples=150)
@given(place=st.floats(0, 1, exclude_max=True))
def test_any_flipped_bit_is_noticed(checkpoint: Path, backbone_: LoadedBackbone, tmp_path: Path, place: float) -> None:
    content = bytearray(checkpoint.read_bytes())
    bit = int(place * 8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    assert_damaged(tmp_path / NAME, bytes(content), backbone_)


def test_a_checkpoint_of_another_backbone_or_task_is_refused(checkpoint: Path, backbone_: LoadedBackbone) -> None:
    for backbone, classes in ((tiny_backbone("swin"), 2), (backbone_, 3)):
        with pytest.raises(ArtifactError, match="not a whole checkpoint of this run"):
            load_checkpoint(checkpoint, backbone, beginning(backbone), classes, config(), CPU)


def test_a_damaged_checkpoint_stops_a_resumed_run(pictures: Path, tmp_path: Path) -> None:
    folder = stopped(small_config(pictures), tmp_path / "run", 3)
    content = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match="checkpoint"):
        resume_training(folder)
    (folder / NAME).unlink()
    assert resume_training(folder).task_file.exists()


def test_a_full_disk_leaves_the_last_checkpoint(checkpoint: Path, backbone_: LoadedBackbone, tmp_path: Path) -> None:
    path = tmp_path / NAME
    shutil.copy(checkpoint, path)
    model = adapted_model(backbone_, {"blocks.1.attn": 9}, 2)
    model.release()
    with room_for(500), pytest.raises(OSError, match=r"large|space"):
        save_checkpoint(path, model, make_optimizer(model, config()), Progress())
    assert [each.name for each in tmp_path.iterdir()] == [NAME]
    assert path.read_bytes() == checkpoint.read_bytes()
