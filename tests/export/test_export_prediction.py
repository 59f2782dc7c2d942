from __future__ import annotations

import numpy as np
import pytest
from export_samples import random_images, random_task, some_neurons, task_file, torch_logits
from PIL import Image
from predicting import predict

from mimi_edge.errors import ArtifactError, ConfigError, MimiEdgeError
from mimi_edge.export import onnx_runtime
from mimi_edge.export.answers import softmax
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.packages import create_or_extend
from mimi_edge.images.preprocessing import fit, normalise


@pytest.fixture
def package(workplace, tmp_path):
    backbone, folder = workplace
    tasks = [random_task(backbone, some_neurons(backbone), name=name, classes=classes) for name, classes in NAMES]
    return create_or_extend(tmp_path / "package", folder, [task_file(folder, task) for task in tasks])


NAMES = (("few", 3), ("many", 8))


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(4)
    paths = [tmp_path / f"{index}.png" for index in range(5)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return paths


def test_predictions_are_torchs(package, photos, workplace):
    backbone, _ = workplace
    images = normalise(
        np.stack([fit(Image.open(path), backbone.preprocessing) for path in photos]), backbone.preprocessing
    )
    predictions = predict(package.folder, photos, batch=2)
    assert [(each.task, each.path) for each in predictions] == [(name, path) for name, _ in NAMES for path in photos]
    for name, classes in NAMES:
        task = random_task(backbone, some_neurons(backbone), name=name, classes=classes)
        expected = softmax(torch_logits(backbone, task, images))
        for row, each in zip(expected, [each for each in predictions if each.task == name], strict=True):
            assert each.label == f"class {row.argmax()}"
            assert each.probability == pytest.approx(row.max(), rel=1e-3)
            assert each.top[0] == (each.label, each.probability)
            assert len(each.top) == min(5, classes)
            assert list(each.top) == sorted(each.top, key=lambda pair: -pair[1])


def test_one_task_or_one_graph(package, photos):
    chosen = predict(package.folder, photos, ["many"])
    assert {each.task for each in chosen} == {"many"}
    assert predict(package.task("many").graph, photos) == chosen
    with pytest.raises(ConfigError, match="few, many"):
        predict(package.folder, photos, ["none"])
    with pytest.raises(ConfigError, match="own task"):
        predict(package.task("many").graph, photos, ["few"])
    with pytest.raises(ArtifactError, match="bare backbone"):
        predict(package.backbone_graph, photos)


def test_bad_image_stops_or_is_told_once(package, photos):
    photos[1].write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"1\.png"):
        predict(package.folder, photos)
    told = []
    predictions = predict(package.folder, photos, on_bad=lambda path, _: told.append(path))
    assert told == [photos[1]]
    assert len(predictions) == 2 * (len(photos) - 1)


def test_no_images_no_predictions(package):
    assert predict(package.folder, []) == []


def test_wrong_shapes_are_refused_before_the_runtime(package):
    model = open_graph(package.backbone_graph, threads=1)
    for images in (random_images(1, size=16), random_images(1)[0], random_images(1)[:0]):
        with pytest.raises(ConfigError, match=r"\[B, 3, 32, 32\]"):
            model.run(images)


@pytest.mark.usefixtures("from_an_index")
def test_missing_runtime_names_the_line_that_installs_it(package, monkeypatch):
    monkeypatch.setattr(onnx_runtime, "find_spec", lambda _name: None)
    with pytest.raises(MimiEdgeError, match=r'pip install "mimi-edge\[cpu\]"'):
        open_graph(package.backbone_graph)
