import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance
from mimi_edge.images.decode import LabelledImages
from mimi_edge.images.preprocessing import Preprocessing, normalise
from mimi_edge.profiles.accuracy import top1_accuracy

PREPROCESSING = Preprocessing(4, 4, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
CLASSES = 3


def split_of(count, seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 4, 4, 3), np.uint8)
    return LabelledImages(images, random.integers(0, CLASSES, count), ())


def linear(seed=0):
    weight = np.random.default_rng(seed).standard_normal((3 * 4 * 4, CLASSES), np.float32)
    return lambda images: images.reshape(len(images), -1) @ weight


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 99))
def test_accuracy_is_the_share_of_right_answers_whatever_the_batch(count, batch, seed):
    split, run = split_of(count, seed), linear(seed)
    right = (run(normalise(split.images, PREPROCESSING)).argmax(axis=1) == split.labels).mean()
    found = top1_accuracy(run, split, PREPROCESSING, batch=batch)
    assert found.accuracy == pytest.approx(right)
    assert found.images == count


def test_no_batch_is_larger_than_asked_and_every_image_is_seen_once():
    seen = []

    def run(images):
        seen.append(images)
        return np.zeros((len(images), CLASSES), np.float32)

    split = split_of(10)
    top1_accuracy(run, split, PREPROCESSING, batch=4)
    assert [len(images) for images in seen] == [4, 4, 2]
    assert np.array_equal(np.concatenate(seen), normalise(split.images, PREPROCESSING))


def test_progress_is_told():
    heard = []
    top1_accuracy(linear(), split_of(10), PREPROCESSING, batch=4, listener=heard.append, stage="digits")
    assert heard == [Advance("digits", done, 10) for done in (0, 4, 8, 10)]


def test_a_split_without_images_is_refused():
    with pytest.raises(ConfigError, match="no"):
        top1_accuracy(linear(), split_of(0), PREPROCESSING)
