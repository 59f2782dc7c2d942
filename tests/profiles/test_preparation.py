"""The time of preprocessing: of a split's images, or of a made-up one."""

import numpy as np
import pytest
from PIL import Image

from mimi_edge.images.dataset import load_dataset
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.images.read_image import UnusableImageError
from mimi_edge.images.splits import Split
from mimi_edge.profiles.preparation import IMAGES, preparation_of_made_up, preparation_of_split

PREPROCESSING = Preprocessing(16, 18, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_a_made_up_image_takes_time_in_each_step():
    found = preparation_of_made_up(PREPROCESSING)
    assert found.source == "made up"
    assert len(found.read_ns) == len(found.fit_ns) == len(found.normalise_ns) == IMAGES
    assert min(*found.read_ns, *found.fit_ns, *found.normalise_ns) > 0
    assert found.total_ns[0] == found.read_ns[0] + found.fit_ns[0] + found.normalise_ns[0]


def test_images_of_a_split_are_read_as_they_are():
    split = load_dataset("builtin:digits", seed=0).splits["test"]
    found = preparation_of_split(split, PREPROCESSING)
    assert found.source == "test split"
    assert len(found.total_ns) == IMAGES


def split_of(*images):
    def read(index):
        if images[index] is None:
            raise UnusableImageError("bad.png", "damaged")
        return images[index]

    return Split("test", ("a", "b"), np.zeros(len(images), np.int64), tuple(map(str, range(len(images)))), read)


GOOD = Image.new("RGB", (30, 20))


def test_bad_images_are_left_out():
    assert len(preparation_of_split(split_of(GOOD, None, GOOD, GOOD, GOOD), PREPROCESSING).total_ns) <= 5
    with pytest.raises(UnusableImageError):
        preparation_of_split(split_of(None, None), PREPROCESSING)
