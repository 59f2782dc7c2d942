"""Where images are kept changes nothing about the task."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_samples import small_config, tiny_backbone, write_image_folder

from mimi_edge.caches import CACHE_VARIABLE
from mimi_edge.errors import ConfigError, StoppedError
from mimi_edge.images.dataset import decode_dataset, load_dataset
from mimi_edge.training.batches import on_device
from mimi_edge.training.read_ahead import AHEAD, ReadAhead
from mimi_edge.training.runs import resume_training, run_training


def test_the_task_is_the_same_wherever_the_images_are(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    config = small_config(pictures, epochs=1)
    made = {
        images: run_training(replace(config, images=images), tmp_path / images).task_file.read_bytes()
        for images in ("mapped", "memory", "files")
    }
    assert made["mapped"] == made["memory"] == made["files"]
    assert len(list((tmp_path / "cache" / "images").iterdir())) == 3


def test_on_a_cpu_mapped_images_are_not_copied(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    preprocessing = tiny_backbone("vit").preprocessing
    decoded = decode_dataset(load_dataset(str(pictures), seed=0), preprocessing, images="mapped")["train"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        there = on_device(decoded, preprocessing, torch.device("cpu"))
    assert there.images.data_ptr() == decoded.images.ctypes.data


def test_where_images_are_kept_is_not_part_of_the_task(pictures: Path) -> None:
    config = small_config(pictures)
    assert len({replace(config, images=images).sha256 for images in ("auto", "mapped", "memory", "files")}) == 1


def test_a_run_without_kept_images_goes_on_with_the_same_bytes(pictures: Path, tmp_path: Path) -> None:
    config, steps = small_config(pictures, images="files", augment="flip", batch_size=5), iter(range(99))
    whole = run_training(config, tmp_path / "whole").task_file.read_bytes()
    with pytest.raises(StoppedError):
        run_training(config, tmp_path / "again", should_stop=lambda: next(steps) == 5)
    assert resume_training(tmp_path / "again").task_file.read_bytes() == whole
    assert run_training(replace(config, images="memory"), tmp_path / "memory").task_file.read_bytes() == whole


def test_an_image_that_breaks_while_a_run_goes_on_is_named(tmp_path: Path) -> None:
    data = write_image_folder(tmp_path / "data", {"train": 6, "val": 3, "test": 3})
    preprocessing = tiny_backbone("vit").preprocessing
    decoded = decode_dataset(load_dataset(str(data), seed=0), preprocessing, images="files")["train"]
    assert (len(decoded), len(decoded.digests), decoded.images.shape) == (12, 12, (0, 32, 32, 3))
    there = on_device(decoded, preprocessing, torch.device("cpu"))
    in_memory = decode_dataset(load_dataset(str(data), seed=0), preprocessing, images="memory")["train"]
    assert there.images[torch.tensor([7, 2])].tolist() == in_memory.images[[7, 2]].transpose(0, 3, 1, 2).tolist()
    broken = decoded.source.read.paths[2]
    broken.write_bytes(b"no image")
    with pytest.raises(ConfigError, match=f"{broken.name} could be used when the run began, and cannot any more"):
        there.images[torch.tensor([7, 2])]


def reader(count: int) -> tuple[ReadAhead, list[list[int]]]:
    """Images whose every value is their position, and what was read."""
    asked: list[list[int]] = []

    def read(positions: Sequence[int]) -> torch.Tensor:
        asked.append(list(positions))
        return torch.tensor(positions, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)

    return ReadAhead(read, count, torch.device("cpu")), asked


def test_batches_that_come_are_read_ahead_and_no_more_than_two_of_them() -> None:
    images, asked = reader(40)
    batches = list(torch.randperm(40, generator=torch.Generator().manual_seed(0)).split(8))
    images.coming(batches)
    for number, batch in enumerate(batches):
        pixels = images[batch]
        assert pixels[:, 0, 0, 0].tolist() == batch.tolist()
        assert len(asked) <= number + 1 + AHEAD
    assert asked == [batch.tolist() for batch in batches]


def test_what_nobody_said_was_coming_is_read_all_the_same() -> None:
    images, _ = reader(10)
    images.coming([torch.tensor([1, 2]), torch.tensor([3])])
    assert images[2:5][:, 0, 0, 0].tolist() == [2, 3, 4]
    assert images[torch.tensor([1, 2])][:, 0, 0, 0].tolist() == [1, 2]
    images.coming([slice(0, 4)])
    assert images[0:4][:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert len(images) == 10


def test_what_cannot_be_read_is_said_to_whoever_asks_for_it() -> None:
    def read(positions: Sequence[int]) -> torch.Tensor:
        raise ConfigError(f"no {positions}")

    images = ReadAhead(read, 4, torch.device("cpu"))
    images.coming([slice(0, 2), slice(2, 4)])
    with pytest.raises(ConfigError, match=r"no \[0, 1\]"):
        images[0:2]
