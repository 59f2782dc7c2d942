"""Images are prepared ahead of the runtime, in their order, and never more of them than two batches."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_package import make_package

from mimi_edge.errors import ConfigError
from mimi_edge.export.prediction import predictions
from mimi_edge.export.prefetch import ready_batches
from mimi_edge.export.serving.find import serving
from mimi_edge.export.serving.served import ServedTask, Serving


def prepared(number: int) -> np.ndarray:
    if number % 5 == 3:
        raise ConfigError(f"{number} is bad")
    return np.full((1, 3, 2, 2), number, np.float32)


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_order_and_faults_are_kept_whatever_the_batch(batch):
    batches = list(ready_batches(range(23), prepared, batch))
    assert [len(one) for one in batches[:-1]] == [batch] * (len(batches) - 1)
    together = [entry for one in batches for entry in one]
    assert [number for number, _ in together] == list(range(23))
    for number, outcome in together:
        if number % 5 == 3:
            assert str(outcome) == f"{number} is bad"
        else:
            assert outcome.max() == number
    assert list(ready_batches([], prepared, batch)) == []


def test_no_more_is_taken_than_two_batches_ahead():
    taken = []

    def endless():
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    batches = ready_batches(endless(), lambda number: np.zeros((1, 3, 2, 2), np.float32), 4)
    for used in range(1, 50):
        next(batches)
        assert len(taken) <= 4 * used + 2 * 4 + 1
    batches.close()
    assert threading.active_count() < 50


def test_whoever_stops_half_way_leaves_no_thread_behind():
    before = threading.active_count()
    batches = ready_batches(range(1000), prepared, 4)
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_another_error_of_a_thread_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(ready_batches([1, 0], lambda number: np.full((1, 3, 2, 2), 1 / number, np.float32), 4))


def test_answers_come_before_all_images_are_read(tmp_path: Path):
    """The stream gives the first batch's answers while the last image is not even there yet."""
    package = make_package(tmp_path, {"few": (1, 2, 1)})
    run = next(serving(package.folder).served())
    seen: list[int] = []

    def counted(images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        return run.run(images)

    task = ServedTask("few", run.classes, run.preprocessing, counted)
    paths = [tmp_path / f"{index}.ppm" for index in range(40)]
    for path in paths[:20]:
        path.write_bytes(b"P6 4 4 255\n" + bytes(48))
    found = Serving(("few",), lambda: iter([task]))
    stream = predictions(found, paths, batch=4, on_bad=lambda *_: None)
    assert next(stream).path == paths[0]
    assert seen == [4]
    for path in paths[20:]:
        path.write_bytes(b"P6 4 4 255\n" + bytes(48))
    assert [one.path for one in stream] == paths[1:]
    assert seen == [4] * 10
