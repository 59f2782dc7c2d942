"""From a graph to a proven answer through the modules as they are used together, TensorRT and CUDA being fakes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fake_runtime import install
from running_samples import half, images, own_graph, reference, shared_graph, task_weights

from mimi_edge.choices import Precision
from mimi_edge.export.engines.building.build import build_engine
from mimi_edge.export.engines.building.requests import BatchRange, BuildRequest
from mimi_edge.export.engines.proof.proof import TOLERANCES, prove
from mimi_edge.export.engines.running.cuda import open_cuda
from mimi_edge.export.engines.running.executor import Plan
from mimi_edge.export.engines.running.one_task import EngineRunner
from mimi_edge.export.engines.running.refit import RefitRunner
from mimi_edge.export.engines.running.shared import SharedRunner
from mimi_edge.export.engines.tensorrt.bindings import load_bindings

RANGES = {"batch": BatchRange(1, 2, 4)}


@pytest.fixture(params=["10.3", "10.15", "11.4", "rtx-1.7"])
def gpu(request, monkeypatch):
    made = install(monkeypatch, request.param)
    yield made.gpu
    made.gpu.check()


def stored(tmp_path, request):
    """A plan that went through a file, as engines do."""
    path = tmp_path / "the.engine"
    build_engine(load_bindings(), request).write(path)
    request.graph.unlink()
    return path.read_bytes()


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_build_store_load_run_prove(gpu, tmp_path, precision):
    graph = own_graph(tmp_path / "task.onnx", task_weights(1))
    expected = reference(graph, images(9))
    engine_graph = half(tmp_path / "half.onnx", graph) if precision is Precision.FP16 else graph
    plan = stored(tmp_path, BuildRequest(engine_graph, RANGES))
    with EngineRunner(Plan(load_bindings(), plan, open_cuda())) as runner:
        proof = prove(runner, expected, images(9), precision)
    assert proof.outputs.relative_difference <= TOLERANCES[precision]
    assert json.loads(json.dumps(proof.document()))["outputs"]["images"] == 9


def test_half_precision_takes_its_tasks_in_half(gpu, tmp_path):
    graph = shared_graph(tmp_path / "shared.onnx")
    expected = {seed: reference(graph, images(2), **task_weights(seed)) for seed in (1, 2)}
    plan = stored(tmp_path, BuildRequest(half(tmp_path / "half.onnx", graph), RANGES))
    with SharedRunner(Plan(load_bindings(), plan, open_cuda())) as runner:
        for seed in expected:
            runner.add(f"task {seed}", task_weights(seed), 5)
        for seed in (1, 2, 1):
            runner.use(f"task {seed}")
            assert prove(runner, expected[seed], images(2), Precision.FP16).outputs.images == 2
        assert runner.memory.tasks_bytes["task 1"] == 256 * len(task_weights(1))  # each of at most 160 bytes


def test_refit_is_switched_and_proved(gpu, tmp_path):
    graph = own_graph(tmp_path / "task.onnx", task_weights(0))
    expected = {seed: reference(own_graph(tmp_path / f"{seed}.onnx", task_weights(seed)), images(3)) for seed in (1, 2)}
    plan = stored(tmp_path, BuildRequest(graph, RANGES, refittable=frozenset(task_weights(0))))
    with RefitRunner(Plan(load_bindings(), plan, open_cuda())) as runner:
        for seed in expected:
            runner.add(str(seed), task_weights(seed), 5)
        for seed in (1, 2, 1):
            runner.use(str(seed))
            assert prove(runner, expected[seed], images(3), Precision.FP32).outputs.images == 3


def test_weights_that_half_precision_cannot_keep_are_named(gpu, tmp_path):
    plan = stored(tmp_path, BuildRequest(half(tmp_path / "half.onnx", shared_graph(tmp_path / "shared.onnx")), RANGES))
    with SharedRunner(Plan(load_bindings(), plan, open_cuda())) as runner:
        too_large = task_weights(1) | {"head.bias": np.full(5, 1e5)}
        with pytest.raises(Exception, match=r"head\.bias: holds values that float16 cannot keep"):
            runner.add("large", too_large, 5)
