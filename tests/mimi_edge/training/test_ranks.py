"""Two processes train what one trains: the same course within float tolerance, the same neurons, one writer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from ranks_script import TRAININGS, config_of
from training_samples import small_config

import mimi_edge
from mimi_edge.errors import ConfigError
from mimi_edge.images.on_demand import OnDemand
from mimi_edge.tasks.files import read_task
from mimi_edge.tasks.task import decode_tensors
from mimi_edge.training import devices, loop, ranks
from mimi_edge.training.rows import Rows
from mimi_edge.training.runs import run_training
from mimi_edge.training.torchrun import Rank, require_alone, this_rank

HERE = Path(__file__).parent
TOGETHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def together(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All trainings by two processes."""
    out, own = (tmp_path_factory.mktemp(name) for name in ("together", "own"))
    paths = (str(Path(mimi_edge.__file__).parents[1]), str(HERE))
    done = subprocess.run(
        [*TOGETHER, str(HERE / "ranks_script.py"), str(pictures), str(out)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "TMPDIR": str(own)},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(own.glob("mimi-edge-*"))
    return out


@pytest.mark.parametrize("name", TRAININGS)
def test_the_same_as_by_one(name: str, together: Path, pictures: Path, tmp_path: Path) -> None:
    alone = run_training(config_of(name, pictures), tmp_path / "alone")
    ours, theirs = (
        json.loads((folder / "report.json").read_text()) for folder in (alone.task_file.parent, together / name)
    )
    assert theirs["neurons"] == ours["neurons"]
    for mine, shared in zip(ours["history"], theirs["history"], strict=True):
        assert shared["loss"] == pytest.approx(mine["loss"], abs=2e-4)
        assert shared["step"] == mine["step"]
        assert shared["processes"] == 2
        assert "processes" not in mine
    one, other = (read_task(folder / "task.safetensors") for folder in (alone.task_file.parent, together / name))
    assert other.header.training_sha256 == one.header.training_sha256
    if name != "one bit":  # a weight near the middle may fall on either side
        for tensor, values in decode_tensors(one.tensors).items():
            np.testing.assert_allclose(decode_tensors(other.tensors)[tensor], values, atol=2e-3, err_msg=tensor)


def test_gradients_of_what_is_trained_are_all_that_is_sent(together: Path) -> None:
    report = json.loads((together / "plain" / "report.json").read_text())
    task = read_task(together / "plain" / "task.safetensors")
    assert report["history"][-1]["gradient_bytes"] == 4 * sum(values.size for values in task.tensors.values())
    sent = [entry["gradient_bytes"] for entry in report["history"]]
    assert sent == sorted(sent, reverse=True)
    assert sent[0] > sent[-1]


def test_only_the_first_keeps_a_folder(together: Path) -> None:
    assert sorted(folder.name for folder in together.iterdir()) == sorted(TRAININGS)


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert this_rank() == ranks.rank() == Rank()
    require_alone("compare")
    with ranks.joined() as here:
        assert here.is_alone
    share = ranks.share_of(7)
    assert (share.rows, share.factor) == (Rows.all_of(7), None)
    assert ranks.any_says(True)
    assert not ranks.any_says(False)


def test_shares_are_all_of_a_batch_and_count_as_much_as_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (1, 2, 7, 64):
        shares = []
        for number in range(3):
            monkeypatch.setattr(ranks, "rank", lambda number=number: Rank(number, 3, number, 3))
            shares.append((ranks.rows_of(count), ranks.share_of(count)))
        assert [row for rows, _ in shares for row in rows] == list(range(count))
        assert sum(share.factor for _, share in shares) / 3 == pytest.approx(1)
        for rows, share in shares:
            assert (len(share.rows.numbers), share.rows.of) == (max(1, len(rows)), count)
            assert share.factor == pytest.approx(3 * len(rows) / count)


@pytest.mark.parametrize(("mixup", "images"), [(0.0, 2), (0.4, 4)])
def test_a_process_decodes_its_own_images_and_those_they_are_mixed_with(
    mixup: float, images: int, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the second of four, of batches of eight; while it trains, for whoever evaluates has other rows."""
    config = small_config(pictures, images="files", batch_size=8, epochs=1, augment="flip", mixup=mixup)
    second = ranks.Share(Rows((2, 3), 8), 1.0)
    decoded: list[int] = []
    reading = OnDemand.decoded

    def counted(self: OnDemand, positions: Sequence[int]) -> NDArray[np.uint8]:
        if self.split.name == "train":
            decoded.append(len(positions))
        return reading(self, positions)

    monkeypatch.setattr(OnDemand, "decoded", counted)
    monkeypatch.setattr(loop, "share_of", lambda _: second)
    run_training(config, tmp_path / "run")
    assert set(decoded) == {images}


def test_other_commands_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert this_rank() == Rank(1, 2, 1, 2)
    with pytest.raises(ConfigError, match="torchrun is for mimi-edge train; compare is one process"):
        require_alone("compare")
    monkeypatch.setenv("RANK", "second")
    with pytest.raises(ConfigError, match="RANK=second"):
        this_rank()


def test_each_process_has_a_gpu_of_its_own_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "rank", lambda: Rank(1, 4, 1, 2))
    with pytest.raises(ConfigError, match="cuda:1 is one for all 4 processes"):
        devices.chosen_device("cuda:1")
    assert devices.chosen_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="2 processes on this machine, and 1 GPUs"):
        devices.chosen_device("auto")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.chosen_device("auto").type == "cuda"
