"""The same as with the fakes, on a real GPU with the TensorRT that is installed; small graphs, seconds each."""

from __future__ import annotations

import numpy as np
import pytest
from running_samples import (
    SITES,
    built,
    half,
    images,
    mixed_graph,
    own_graph,
    reference,
    shared_graph,
    task_weights,
)

from mimi_edge.choices import Precision
from mimi_edge.errors import ExportMismatchError, MimiEdgeError
from mimi_edge.export.engines.building.build import build_engine
from mimi_edge.export.engines.building.requests import BatchRange, BuildRequest
from mimi_edge.export.engines.proof.proof import TOLERANCES, prove
from mimi_edge.export.engines.running.cuda import open_cuda
from mimi_edge.export.engines.running.executor import Plan
from mimi_edge.export.engines.running.mixed import MixedRunner
from mimi_edge.export.engines.running.one_task import EngineRunner
from mimi_edge.export.engines.running.refit import RefitRunner
from mimi_edge.export.engines.running.shared import SharedRunner
from mimi_edge.export.engines.tensorrt.bindings import load_bindings

pytestmark = [pytest.mark.gpu, pytest.mark.trt]

RANGES = {"batch": BatchRange(1, 2, 4)}
MIXED_RANGES = {"frames": BatchRange(1, 1, 3), "answers": BatchRange(1, 2, 4), "tasks": BatchRange(1, 2, 4)}
TASKS = {"cats": 3, "dogs": 5, "mugs": 2}
SEEDS = {name: seed for seed, name in enumerate(TASKS, start=1)}
PRECISIONS = [Precision.FP32, Precision.FP16]


@pytest.fixture(scope="module")
def bindings():
    return load_bindings()


@pytest.fixture(scope="module")
def cuda():
    return open_cuda()


def plan_of(bindings, graph, precision=Precision.FP32, ranges=None, **options):
    if precision is Precision.FP16:
        graph = half(graph.with_name(f"half.{graph.name}"), graph)
    return build_engine(bindings, BuildRequest(graph, ranges or RANGES, **options)).plan


def close(got, expected, precision):
    return np.abs(got - expected).max() <= TOLERANCES[precision] * np.abs(expected).max()


def test_the_device_is_described(cuda):
    device = cuda.device
    assert device.name
    assert device.compute_capability >= (7, 5)
    assert device.multiprocessors > 0
    free, total = cuda.memory()
    assert 0 < free <= total == device.memory_bytes


@pytest.mark.parametrize("precision", PRECISIONS)
def test_engine_against_onnx_runtime(bindings, cuda, tmp_path, precision):
    graph = own_graph(tmp_path / "task.onnx", task_weights(1))
    with EngineRunner(Plan(bindings, plan_of(bindings, graph, precision), cuda)) as runner:
        for count in (1, 3, 4, 11):
            prove(runner, reference(graph, images(count)), images(count), precision)
        other = reference(own_graph(tmp_path / "other.onnx", task_weights(2)), images(8))
        with pytest.raises(ExportMismatchError):
            prove(runner, other, images(8), precision)


def test_a_cuda_graph_gives_the_bits_of_an_ordinary_run(bindings, cuda, tmp_path):
    plan = plan_of(bindings, own_graph(tmp_path / "task.onnx", task_weights(1)))
    with (
        EngineRunner(Plan(bindings, plan, cuda)) as captured,
        EngineRunner(Plan(bindings, plan, cuda, graphs=0)) as plain,
    ):
        for turn in range(3):
            for count in (2, 4, 2):
                got, expected = captured.run(images(count, turn)), plain.run(images(count, turn))
                assert got.tobytes() == expected.tobytes()
        assert captured.executor.why_no_graphs is None
        assert captured.executor.graph_count == 2


def test_marked_outputs_come_too(bindings, cuda, tmp_path):
    graph = own_graph(tmp_path / "task.onnx", task_weights(1))
    with EngineRunner(Plan(bindings, plan_of(bindings, graph, marked=SITES), cuda)) as runner:
        outputs = runner.run_all(images(5))
        assert outputs.keys() == {"logits", *SITES}
        assert outputs[SITES[0]].shape == (5, 3, 16)


@pytest.mark.parametrize("graphs", [0, 64])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_shared_tasks_are_switched_by_addresses(bindings, cuda, tmp_path, precision, graphs):
    graph = shared_graph(tmp_path / "shared.onnx")
    with SharedRunner(Plan(bindings, plan_of(bindings, graph, precision), cuda, graphs=graphs)) as runner:
        for task, classes in TASKS.items():
            runner.add(task, task_weights(SEEDS[task]), classes)
        bits = {}
        for task in ("cats", "dogs", "cats", "mugs", "dogs", "cats"):
            runner.use(task)
            for count in (2, 4):
                got = runner.run(images(count))
                expected = reference(graph, images(count), **task_weights(SEEDS[task]))[:, : TASKS[task]]
                assert close(got, expected, precision)
                assert bits.setdefault((task, count), got.tobytes()) == got.tobytes()
        runner.add("cats", task_weights(9), 5)
        runner.use("cats")
        assert close(runner.run(images(2)), reference(graph, images(2), **task_weights(9)), precision)
        runner.remove("dogs")
        assert close(runner.run(images(2)), reference(graph, images(2), **task_weights(9)), precision)


def test_refit_there_and_back_gives_the_same_bits(bindings, cuda, tmp_path):
    graph = own_graph(tmp_path / "task.onnx", task_weights(0))
    plan = plan_of(bindings, graph, refittable=frozenset(task_weights(0)))
    with RefitRunner(Plan(bindings, plan, cuda)) as runner:
        assert set(runner.refittable) == set(task_weights(0))
        for task, classes in TASKS.items():
            runner.add(task, task_weights(SEEDS[task]), classes)
        bits = {}
        for task in ("cats", "dogs", "cats", "dogs"):
            assert runner.use(task) > 0
            for _ in range(2):
                got = runner.run(images(4))
                own = own_graph(tmp_path / f"{task}.onnx", task_weights(SEEDS[task]))
                assert close(got, reference(own, images(4))[:, : TASKS[task]], Precision.FP32)
                assert bits.setdefault(task, got.tobytes()) == got.tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_mixed_batches_answer_each_by_its_task(bindings, cuda, tmp_path, precision):
    shared = shared_graph(tmp_path / "shared.onnx")
    plan = plan_of(bindings, mixed_graph(tmp_path / "mixed.onnx"), precision, MIXED_RANGES)
    with MixedRunner(Plan(bindings, plan, cuda)) as runner:
        for task, classes in TASKS.items():
            runner.add(task, task_weights(SEEDS[task]), classes)
        frames, tasks = [4, 0, 0, 3, 4, 2, 1], ["dogs", "cats", "mugs", "dogs", "cats", "cats", "mugs"]
        for turn in range(3):
            batch = images(5, turn)
            for got, frame, task in zip(runner.answer(batch, frames, tasks), frames, tasks, strict=True):
                expected = reference(shared, batch[frame : frame + 1], **task_weights(SEEDS[task]))[0, : TASKS[task]]
                assert close(got, expected, precision)
        assert runner.all_tasks(images(1)[0]).keys() == TASKS.keys()


def test_everything_is_given_back(bindings, cuda, tmp_path):
    plan = plan_of(bindings, shared_graph(tmp_path / "shared.onnx"))

    def once():
        with SharedRunner(Plan(bindings, plan, cuda)) as runner:
            runner.add("cats", task_weights(1), 5)
            runner.use("cats")
            runner.run(images(4))

    once()
    before, _ = cuda.memory()
    for _ in range(10):
        once()
    assert before - cuda.memory()[0] < 8_000_000


def test_a_damaged_plan_is_refused(bindings, cuda, tmp_path):
    plan = bytearray(built(bindings, own_graph(tmp_path / "task.onnx", task_weights(1))))
    with pytest.raises(MimiEdgeError):
        EngineRunner(Plan(bindings, bytes(plan[: len(plan) // 2]), cuda))
    plan[:64] = bytes(64)
    with pytest.raises(MimiEdgeError):
        EngineRunner(Plan(bindings, bytes(plan), cuda))
