"""A task that stays open and is asked from Python."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from nan_graph import answers_nan_in_the_dark
from PIL import Image
from tiny_package import CLASSES, make_package

import mimi_edge
from mimi_edge import Predictor
from mimi_edge.errors import ConfigError
from mimi_edge.export.answers import NotFiniteError, softmax
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.open_packages import Package
from mimi_edge.images.preprocessing import fit, normalise


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return make_package(tmp_path, {"few": (1, 2, 1), "more": (2, 2, 2)})


@pytest.fixture
def frame() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (9, 12, 3), np.uint8)


def test_one_picture_of_any_kind_gives_the_graphs_answer(package, frame, tmp_path):
    file = tmp_path / "frame.png"
    Image.fromarray(frame).save(file)
    task = package.task("few")
    model = open_graph(task.graph)
    pixels = fit(Image.fromarray(frame), model.info.preprocessing)
    (expected,) = model.run(normalise(pixels[None], model.info.preprocessing))
    with Predictor(package.folder, "few") as predictor:
        assert (predictor.task, predictor.classes) == ("few", CLASSES)
        assert predictor.preprocessing == model.info.preprocessing
        bgr = frame[:, :, ::-1]
        for picture in (frame, bgr[:, :, ::-1], Image.fromarray(frame), file, str(file)):
            answer = predictor(picture)
            np.testing.assert_array_equal(answer.logits, expected)
            np.testing.assert_array_equal(predictor.logits(picture), expected)
            assert answer.label == CLASSES[expected.argmax()] == answer.top[0][0]
            assert answer.probability == pytest.approx(softmax(expected[None]).max()) == answer.top[0][1]
            assert (answer.task, len(answer.top)) == ("few", 3)


def test_lists_are_answered_in_their_order_whatever_the_batch(package, frame):
    frames = [np.roll(frame, shift, axis=2) // (shift + 1) for shift in range(7)]
    with Predictor(str(package.folder), task="more", batch=3, top=2) as predictor:
        expected = [predictor.logits(one) for one in frames]
        answers = predictor(frames)
        for answer, logits in zip(answers, expected, strict=True):
            np.testing.assert_allclose(answer.logits, logits, rtol=1e-5)
            assert len(answer.top) == 2
        np.testing.assert_allclose(predictor.logits(tuple(frames)), expected, rtol=1e-5)
        assert predictor([]) == []
        assert predictor.logits([]).shape == (0, 3)


def test_the_name_is_asked_for_before_anything_is_looked_at(package):
    for task in package.tasks.values():
        task.graph.write_bytes(b"altered")
    package.backbone_weights.write_bytes(b"altered")
    with pytest.raises(ConfigError, match="name one with task="):
        Predictor(package.folder)


def test_only_the_task_that_was_named_is_looked_at(package):
    package.task("more").graph.write_bytes(b"altered")
    assert Predictor(package.folder, "few").task == "few"


def test_several_threads_may_ask(package, frame):
    frames = [frame // (number + 1) for number in range(24)]
    with Predictor(package.folder, "few") as predictor, ThreadPoolExecutor(8) as pool:
        together = [answer.logits for answer in pool.map(predictor, frames)]
        np.testing.assert_array_equal(together, [predictor(one).logits for one in frames])


def test_a_package_with_several_tasks_asks_for_a_name(package):
    with pytest.raises(ConfigError, match=r"name one with task=, of 'few', 'more'"):
        Predictor(package.folder)
    with pytest.raises(ConfigError, match="no task 'none'"):
        Predictor(package.folder, task="none")
    assert Predictor(package.task("few").graph).task == "few"
    assert Predictor(package.task("few").task_file).task == "few"


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (np.zeros((4, 4, 3), np.float32), r"\[4, 4, 3\] of float32; expected \[H, W, 3\] of uint8"),
        (np.zeros((4, 4), np.uint8), r"\[4, 4\] of uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"\[0, 4, 3\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), "Give several frames as a list"),
        ("nowhere.png", r"No such file or directory \(nowhere.png\)"),
        (7, "is a int"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_picture_is_named_by_its_index(package, frame, picture, why):
    with Predictor(package.folder, "few") as predictor:
        with pytest.raises(ConfigError, match=f"The image .*{why}"):
            predictor(picture)
        with pytest.raises(ConfigError, match=f"Image 2 .*{why}"):
            predictor([frame, frame, picture])
        assert predictor(frame).label in CLASSES


def test_an_answer_that_is_not_finite_is_an_error_with_the_images_index(package, frame):
    graph = answers_nan_in_the_dark(package.task("few").graph)
    light, dark = np.full_like(frame, 200), np.full_like(frame, 20)
    with Predictor(graph) as predictor:
        assert predictor(light).label in CLASSES
        with pytest.raises(NotFiniteError, match="Image 1: few answers with numbers that are not finite"):
            predictor([light, dark, light])
        with pytest.raises(mimi_edge.MimiEdgeError, match="The image: few"):
            predictor(dark)
        assert np.isnan(predictor.logits([light, dark])).tolist() == [[False] * 3, [True] * 3]


def test_a_closed_predictor_says_so(package, frame):
    predictor = Predictor(package.folder, "few")
    assert repr(predictor) == "Predictor(task='few', 3 classes)"
    predictor.close()
    predictor.close()
    with pytest.raises(ConfigError, match="closed"):
        predictor(frame)
    assert "closed" in repr(predictor)


def test_numbers_and_names_that_make_no_sense(package):
    for wrong in ({"batch": 0}, {"top": 0}):
        with pytest.raises(ConfigError, match="at least 1"):
            Predictor(package.folder, "few", **wrong)
    with pytest.raises(ConfigError, match="ort-cpu, ort-cuda"):
        Predictor(package.folder, "few", backend="gpu")
