"""Random parts of original images: where they lie, how sharp they are, and that place and seed alone decide them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from training_samples import small_config, write_image_folder

from mimi_edge.errors import ConfigError, StoppedError
from mimi_edge.images.dataset import decode_dataset, load_dataset
from mimi_edge.images.image_size import ImageSize
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.training.augmentation.crops import ASPECT
from mimi_edge.training.augmentation.original_crops import OriginalCrops, part_of
from mimi_edge.training.batches import Place
from mimi_edge.training.rows import Rows
from mimi_edge.training.runs import resume_training, run_training

ALL = Rows.all_of(12)
CPU, HERE = torch.device("cpu"), Place(1, 2, 3)
HALF = (0.5, 0.5, 0.5)
SIZE = ImageSize(24, 40)
PREPROCESSING = Preprocessing(SIZE, SIZE, "bilinear", HALF, HALF)
SHARES = st.floats(0, 1, exclude_max=True)


def crops_of(folder: Path, *, seed: int = 0, least_area: float = 0.1, images: str = "memory") -> OriginalCrops:
    decoded = decode_dataset(load_dataset(str(folder), seed=0), PREPROCESSING, images=images)["train"]
    originals = decoded.originals(PREPROCESSING)
    assert originals is not None
    assert len(originals) == len(decoded)
    return OriginalCrops(originals, least_area, seed, CPU)


@given(
    drawn=st.tuples(SHARES, SHARES, SHARES, SHARES),
    least=st.floats(0.01, 1),
    shape=st.floats(0.25, 4),
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
)
def test_a_part_lies_in_its_image_and_has_the_shape_of_what_is_seen(
    drawn: tuple[float, float, float, float], least: float, shape: float, width: int, height: int
) -> None:
    left, top, right, bottom = part_of(drawn, least, shape, width, height)
    across, along, slack = right - left, bottom - top, 1e-6 * max(width, height)
    assert -slack <= left < right <= width + slack
    assert -slack <= top < bottom <= height + slack
    if across < width - slack and along < height - slack:
        assert across * along >= least * width * height * (1 - 1e-6)
        assert abs(math.log(across / along / shape)) <= math.log(ASPECT) * (1 + 1e-6)


def test_parts_are_as_sharp_as_the_original(tmp_path: Path) -> None:
    """Stripes: of an image that was made small nothing is left of them, in some of its parts they are there."""
    stripes = np.zeros((240, 400, 3), np.uint8)
    stripes[:, np.arange(400) % 12 < 6] = 255
    folder = write_image_folder(tmp_path / "data", {"train": 6, "val": 3, "test": 3})
    for file in folder.rglob("*.png"):
        Image.fromarray(stripes).save(file)
    whole = decode_dataset(load_dataset(str(folder), seed=0), PREPROCESSING)["train"].images
    index = torch.arange(12)
    parts = crops_of(folder, least_area=0.01).at(index, ALL, HERE)
    assert parts.shape == (12, 3, *SIZE)
    assert whole.std(axis=(1, 2)).max() < 10
    assert parts.float().std(dim=(2, 3)).max() > 60


def test_place_and_seed_alone_decide_whether_said_before_or_not(pictures: Path) -> None:
    batches, every = torch.randperm(24, generator=torch.Generator().manual_seed(0)).split(8), Rows.all_of(8)
    alone, ahead = crops_of(pictures), crops_of(pictures, images="files")
    ahead.coming([(index, every) for index in batches], Place(1, 2, 3))
    made = [ahead.at(index, every, Place(1, 2, 3 + number)) for number, index in enumerate(batches)]
    for number in (2, 0, 1):
        assert torch.equal(alone.at(batches[number], every, Place(1, 2, 3 + number)), made[number])
    for other in (Place(0, 2, 3), Place(1, 0, 3), Place(1, 2, 0)):
        assert not torch.equal(alone.at(batches[0], every, other), made[0])
    assert not torch.equal(crops_of(pictures, seed=1).at(batches[0], every, HERE), made[0])
    some = Rows((2, 3, 7), 8)
    assert torch.equal(alone.at(some.of_batch(batches[0]), some, HERE), some.of_batch(made[0]))


def test_images_that_were_left_out_are_not_counted(tmp_path: Path) -> None:
    folder = write_image_folder(tmp_path / "data", {"train": 6, "val": 3, "test": 3})
    broken = sorted((folder / "train").rglob("*.png"))[2]
    broken.write_bytes(b"no image")
    dataset = load_dataset(str(folder), seed=0)
    decoded = decode_dataset(dataset, PREPROCESSING, skip_bad_images=True)["train"]
    originals = decoded.originals(PREPROCESSING)
    assert originals is not None
    assert (len(originals), len(decoded)) == (11, 11)
    everything = [lambda width, height: (0.0, 0.0, float(width), float(height))] * 11
    parts = originals.parts(range(11), everything)
    for position, index in enumerate(originals.good):
        shown = dataset.splits["train"].image(index).resize((SIZE.width, SIZE.height), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(parts[position].transpose(1, 2, 0), np.asarray(shown))


def test_an_image_that_breaks_meanwhile_is_named(tmp_path: Path) -> None:
    folder = write_image_folder(tmp_path / "data", {"train": 6, "val": 3, "test": 3})
    crops = crops_of(folder)
    broken = min((folder / "train").rglob("*.png"))
    broken.write_bytes(b"no image")
    with pytest.raises(ConfigError, match=f"{broken.name} could be used when the run began, and cannot any more"):
        crops.at(torch.arange(12), ALL, HERE)


def test_a_run_goes_on_with_the_same_bytes_wherever_images_are_kept(pictures: Path, tmp_path: Path) -> None:
    config, steps = (
        small_config(pictures, augment="original-crop:0.3+flip", batch_size=5, score="snip"),
        iter(range(99)),
    )
    whole = run_training(config, tmp_path / "whole").task_file.read_bytes()
    with pytest.raises(StoppedError):
        run_training(replace(config, images="files"), tmp_path / "again", should_stop=lambda: next(steps) == 5)
    assert resume_training(tmp_path / "again").task_file.read_bytes() == whole
    other = run_training(replace(config, augment="crop:0.3+flip"), tmp_path / "other").task_file.read_bytes()
    assert other != whole
