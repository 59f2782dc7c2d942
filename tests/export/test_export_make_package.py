from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from export_samples import random_task, some_neurons, task_file, torch_logits

from mimi_edge.errors import ExportMismatchError
from mimi_edge.export import make_package
from mimi_edge.export.make_package import Reference, export_onnx
from mimi_edge.export.open_packages import read_package
from mimi_edge.images.decode import LabelledImages
from mimi_edge.images.preprocessing import normalise
from mimi_edge.tasks.stores import Store
from mimi_edge.tasks.task import SplitAccuracy

COUNT = 40


@pytest.fixture
def trained(workplace):
    """A task whose file tells its true accuracy on random images, and the reference that goes with it."""
    backbone, folder = workplace
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (COUNT, 32, 32, 3), np.uint8)
    labels = random.integers(0, 5, COUNT)
    bare = random_task(backbone, some_neurons(backbone), store=Store.FP16)
    right = (torch_logits(backbone, bare, normalise(images, backbone.preprocessing)).argmax(1) == labels).sum()
    task = random_task(
        backbone,
        some_neurons(backbone),
        store=Store.FP16,
        accuracy={"test": SplitAccuracy(int(right) / COUNT, COUNT)},
    )
    reference = Reference(
        lambda batch: torch_logits(backbone, task, batch), LabelledImages(images, labels), compared=16
    )
    return folder, task_file(folder, task), reference


def test_checked_package_says_what_was_checked(trained, tmp_path):
    folder, path, reference = trained
    heard = []
    package = export_onnx(
        [path], tmp_path / "package", backbone_graph_dir=folder, references=lambda _: reference, listener=heard.append
    )
    check = json.loads((package.folder / "manifest.json").read_text())["tasks"]["sample"]["check"]
    assert check["outputs"]["images"] == 16
    assert check["outputs"]["same_top1"] + check["outputs"]["near_ties"] == 16
    assert check["outputs"]["relative_difference"] < check["outputs"]["tolerance"] == 1e-3
    assert check["accuracy"]["images"] == COUNT
    assert check["accuracy"]["right"] == check["accuracy"]["expected_right"]
    assert check["runtime"].startswith("onnxruntime ")
    assert [event.done for event in heard if getattr(event, "stage", "") == make_package.STAGE] == [0, 1]


def _wrong_logits(reference):
    return Reference(lambda batch: reference.logits(batch) * np.float32(1.01), reference.images)


def _wrong_labels(reference):
    return Reference(reference.logits, LabelledImages(reference.images.images, (reference.images.labels + 1) % 5))


@pytest.mark.parametrize("spoil", [_wrong_logits, _wrong_labels])
def test_package_that_disagrees_is_not_published(trained, tmp_path, spoil):
    folder, path, reference = trained
    with pytest.raises(ExportMismatchError) as caught:
        export_onnx(
            [path], tmp_path / "out" / "package", backbone_graph_dir=folder, references=lambda _: spoil(reference)
        )
    assert caught.value.exit_code == 5
    assert not list((tmp_path / "out").iterdir())


def test_existing_package_stays_as_it_was_when_an_addition_disagrees(trained, tmp_path):
    folder, path, reference = trained
    place = tmp_path / "package"
    export_onnx([path], place, backbone_graph_dir=folder)
    before = {each.name: each.read_bytes() for each in place.iterdir()}
    with pytest.raises(ExportMismatchError):
        export_onnx([path], place, backbone_graph_dir=None, references=lambda _: _wrong_logits(reference))
    assert {each.name: each.read_bytes() for each in place.iterdir()} == before


def test_what_cannot_be_checked_is_recorded(trained, tmp_path, monkeypatch):
    folder, path, reference = trained
    package = export_onnx([path], tmp_path / "package", backbone_graph_dir=folder)
    assert package.task("sample").check["outputs"].startswith("not run: no torch model")
    assert package.task("sample").check["accuracy"].startswith("not run: no labelled images")
    package = export_onnx(
        [path], package.folder, backbone_graph_dir=None, references=lambda _: Reference(reference.logits)
    )
    assert package.task("sample").check["outputs"]["kind"] == "random noise"
    other = Reference(None, replace(reference.images, name="val"))
    package = export_onnx([path], package.folder, backbone_graph_dir=None, references=lambda _: other)
    assert "says nothing about its val split" in package.task("sample").check["accuracy"]
    monkeypatch.setattr(make_package, "runtime_version", lambda: None)
    package = export_onnx([path], package.folder, backbone_graph_dir=None, references=lambda _: reference)
    assert package.task("sample").check["outputs"] == "not run: ONNX Runtime is not installed"
    assert read_package(package.folder) == package
