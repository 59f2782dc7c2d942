import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance
from mimi_edge.images.decode import LabelledImages
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.profiles.accuracy import answered_classes, measured_accuracy

PREPROCESSING = Preprocessing(4, 4, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
CLASSES = 3


def split_of(count, seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 4, 4, 3), np.uint8)
    return LabelledImages(images, random.integers(0, CLASSES, count), ())


class Crew:
    """Answers with what a pixel says; notes what it was sent."""

    def __init__(self, broken_after=None):
        self.seen, self.broken_after = [], broken_after

    def ask(self, _name, stage, request, content):
        assert (stage, request["do"], request["preprocessing"]["size"]) == ("accuracy", "classify", 4)
        if self.broken_after is not None and len(self.seen) >= self.broken_after:
            return None
        self.seen.append(np.frombuffer(content, np.uint8).reshape(request["shape"]))
        return {"classes": (self.seen[-1][:, 0, 0, 0] % CLASSES).tolist()}


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 99))
def test_accuracy_is_the_share_of_right_answers_whatever_the_batch(count, batch, seed):
    split = split_of(count, seed)
    found = measured_accuracy(split, answered_classes(Crew(), "digits", split, PREPROCESSING, batch=batch))
    assert found.right == int((split.images[:, 0, 0, 0] % CLASSES == split.labels).sum())
    assert (found.images, found.accuracy) == (count, found.right / count)


def test_no_batch_is_larger_than_asked_and_every_image_is_seen_once():
    crew, split = Crew(), split_of(10)
    answered_classes(crew, "digits", split, PREPROCESSING, batch=4)
    assert [len(images) for images in crew.seen] == [4, 4, 2]
    assert np.array_equal(np.concatenate(crew.seen), split.images)


def test_progress_is_told():
    heard = []
    answered_classes(Crew(), "digits", split_of(10), PREPROCESSING, batch=4, listener=heard.append)
    assert heard == [Advance("accuracy of digits", done, 10) for done in (0, 4, 8, 10)]


def test_a_process_that_fails_leaves_no_accuracy():
    assert answered_classes(Crew(broken_after=1), "digits", split_of(10), PREPROCESSING, batch=4) is None


def test_a_split_without_images_is_refused():
    with pytest.raises(ConfigError, match="no"):
        answered_classes(Crew(), "digits", split_of(0), PREPROCESSING)
