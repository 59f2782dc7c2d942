"""Where images are kept changes nothing about the task."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_samples import small_config, tiny_backbone

from mimi_edge.caches import CACHE_VARIABLE
from mimi_edge.images.dataset import decode_dataset, load_dataset
from mimi_edge.training.batches import on_device
from mimi_edge.training.runs import run_training


def test_the_task_is_the_same_wherever_the_images_are(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    config = small_config(pictures, epochs=1)
    made = {
        images: run_training(replace(config, images=images), tmp_path / images).task_file.read_bytes()
        for images in ("mapped", "memory")
    }
    assert made["mapped"] == made["memory"]
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
    assert len({replace(config, images=images).sha256 for images in ("auto", "mapped", "memory")}) == 1
