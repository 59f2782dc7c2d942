from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from fake_runtime import machine
from hypothesis import given
from hypothesis import strategies as st
from running_samples import CLASSES, SITES, WIDTH, backbone_weights, built, half, images, own_graph, task_weights

from mimi_edge.errors import ConfigError
from mimi_edge.export.engines.proof.bisection import bisect, candidates, compare, mark_outputs
from mimi_edge.export.engines.running.executor import Plan
from mimi_edge.export.engines.running.one_task import EngineRunner

ORDER = ("blocks.0.mlp", "blocks.0.mlp.adapted", "blocks.1.mlp", "blocks.1.mlp.adapted", "features", "logits")


class OnnxRun:
    """A graph in ONNX Runtime, with marked outputs."""

    def __init__(self, path: Path, names) -> None:
        model = ir.load(path)
        mark_outputs(model, names)
        content = ir.to_proto(model).SerializeToString()
        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.marked = tuple(names)

    def run_all(self, batch):
        names = [value.name for value in self.session.get_outputs()]
        values = self.session.run(names, {"images": batch})
        return {name: value.astype(np.float32) for name, value in zip(names, values, strict=True)}


class Builds:
    """Builds a graph with outputs marked, and remembers which."""

    def __init__(self, path: Path) -> None:
        self.path, self.asked = path, []

    def __call__(self, names):
        self.asked.append(tuple(names))
        return OnnxRun(self.path, names)


@pytest.fixture
def right(tmp_path):
    return own_graph(tmp_path / "right.onnx", task_weights(1))


def names_of(engine: Path, reference: Path):
    return candidates(ir.load(engine), ir.load(reference), SITES)


def test_candidates_are_what_both_graphs_have_in_order(right, tmp_path):
    assert names_of(right, right) == ORDER
    text = right.with_name("cut.onnx")
    model = onnx.load(right)
    for node in model.graph.node:
        node.output[:] = [name.replace("blocks.0.mlp.adapted", "joined") for name in node.output]
        node.input[:] = [name.replace("blocks.0.mlp.adapted", "joined") for name in node.input]
    onnx.save(model, text)
    assert names_of(text, right) == tuple(name for name in ORDER if name != "blocks.0.mlp.adapted")


PLANTS = {
    "blocks.0.mlp": "blocks.0.weight",
    "blocks.0.mlp.adapted": "blocks.0.mlp.down",
    "blocks.1.mlp": "blocks.1.weight",
    "blocks.1.mlp.adapted": "blocks.1.mlp.up",
    "logits": "head.weight",
}


@pytest.mark.parametrize("marks", [1, 2, 3, 9])
@pytest.mark.parametrize("layer", PLANTS)
def test_the_layer_with_one_wrong_weight_is_named(right, tmp_path, layer, marks):
    weights = {**backbone_weights(), **task_weights(1)}
    weights[PLANTS[layer]][1, 2] += 1
    wrong = own_graph(tmp_path / "wrong.onnx", weights, backbone=weights)
    found = bisect(names_of(wrong, right), Builds(wrong), Builds(right), images(4), 1e-3, marks=marks)
    assert found.first_bad == layer
    assert found.last_good == (None if layer == ORDER[0] else ORDER[ORDER.index(layer) - 1])
    assert found.is_monotone
    assert found.between == 0
    assert f"The first wrong layer is {layer}" in found.sentence()
    assert found.document()["first_bad"] == layer


def test_the_layer_that_overflows_in_fp16_is_named(tmp_path):
    weights = task_weights(1)
    weights["blocks.1.mlp.down"] *= 300
    weights["blocks.1.mlp.up"] *= 300
    whole = own_graph(tmp_path / "whole.onnx", weights)
    engine = half(tmp_path / "half.onnx", whole)
    found = bisect(names_of(engine, whole), Builds(engine), Builds(whole), images(4), 2e-2)
    assert found.first_bad == "blocks.1.mlp.adapted"
    assert not found.worst.is_finite
    assert "off with values that are no numbers" in found.sentence()
    assert found.document()["seen"]["blocks.1.mlp.adapted"] == "not finite"


def test_an_engine_of_the_fake_tensorrt_is_searched_the_same_way(right, tmp_path):
    computer = machine()
    weights = task_weights(1)
    weights["blocks.0.mlp.up"] *= 2
    wrong = own_graph(tmp_path / "wrong.onnx", weights)
    running = []

    def engine(names):
        for runner in running:
            runner.close()
        plan = built(computer.bindings, wrong, outputs=[name for name in names if name != "logits"])
        running.append(EngineRunner(Plan(computer.bindings, plan, computer.gpu.open())))
        return running[-1]

    found = bisect(names_of(wrong, right), engine, Builds(right), images(6), 1e-3)
    assert found.first_bad == "blocks.0.mlp.adapted"
    running.pop().close()
    running.clear()
    computer.gpu.check()


class Planned:
    """Gives each value the difference that was planned for it."""

    def __init__(self, differences) -> None:
        self.differences, self.built = differences, 0

    def __call__(self, names):
        self.built += 1
        self.names = names
        return self

    def run_all(self, batch):
        return {name: np.array([[1, 1 + self.differences[name]]], np.float32) for name in self.names}


@given(count=st.integers(1, 300), first=st.integers(0, 300), marks=st.integers(1, 5))
def test_builds_grow_with_the_logarithm(count, first, marks):
    names = [f"value {index}" for index in range(count)]
    engine = Planned({name: float(index >= first) for index, name in enumerate(names)})
    right = Planned(dict.fromkeys(names, 0.0))
    found = bisect(names, engine, right, images(1), 0.1, marks=marks)
    assert found.first_bad == (names[first] if first < count else None)
    assert found.is_monotone
    assert found.builds == engine.built <= math.log(count, marks + 1) + 2


@given(st.lists(st.sampled_from([0.0, 0.5, float("nan"), float("inf")]), min_size=1, max_size=40))
def test_whatever_is_seen_is_told_as_it_was_seen(planned):
    names = [f"value {index}" for index in range(len(planned))]
    differences = dict(zip(names, planned, strict=True))
    found = bisect(names, Planned(differences), Planned(dict.fromkeys(names, 0.0)), images(1), 0.1)
    for one in found.seen:
        assert (one.difference <= 0.1) == (differences[one.name] == 0.0)
    if found.first_bad is not None:
        at = names.index(found.first_bad)
        assert planned[at] != 0.0
        assert at == 0 or planned[at - 1] == 0.0 == differences[found.last_good]
    assert found.is_monotone or "right again" in found.sentence()


def test_nothing_wrong_once_marked_is_said(right):
    found = bisect(names_of(right, right), Builds(right), Builds(right), images(2), 1e-3)
    assert found.first_bad is None
    assert "how the layers are fused" in found.sentence()


def test_shapes_zeros_and_wrong_names(right):
    assert compare("x", np.zeros((1, 2)), np.zeros((2, 1))).difference == float("inf")
    assert compare("x", np.full((1, CLASSES), 0.5), np.zeros((1, CLASSES))).difference == 0.5
    with pytest.raises(ConfigError, match="Nothing to look at"):
        bisect((), Builds(right), Builds(right), np.zeros((1, 3, 4, WIDTH)), 1e-3)
    with pytest.raises(ConfigError, match="computes no nothing"):
        mark_outputs(ir.load(right), ["nothing"])
