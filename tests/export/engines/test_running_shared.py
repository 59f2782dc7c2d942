from __future__ import annotations

import numpy as np
import pytest
from fake_cuda import FakeCuda
from fake_runtime import machine
from hypothesis import given
from hypothesis import strategies as st
from running_samples import (
    CLASSES,
    SITES,
    built,
    images,
    own_graph,
    reference,
    shared_graph,
    task_weights,
)

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.engines.running.cuda import CudaError
from mimi_edge.export.engines.running.executor import Plan
from mimi_edge.export.engines.running.shared import SharedRunner

VERSIONS = ("10.3", "10.15", "11.4")
TASKS = {"cats": 3, "dogs": 5, "mugs": 2}
SEEDS = {name: seed for seed, name in enumerate(TASKS, start=1)}


@pytest.fixture(params=VERSIONS)
def computer(request):
    made = machine(request.param)
    yield made
    made.gpu.check()


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return shared_graph(tmp_path_factory.mktemp("shared") / "shared.onnx")


def opened(computer, graph, **options):
    return SharedRunner(Plan(computer.bindings, built(computer.bindings, graph), computer.gpu.open(), **options))


def filled(runner):
    for name, classes in TASKS.items():
        runner.add(name, task_weights(SEEDS[name]), classes)
    return runner


def answer(graph, task, batch):
    return reference(graph, batch, **task_weights(SEEDS[task]))[:, : TASKS[task]]


@pytest.mark.parametrize("graphs", [0, 2, 64])
def test_each_task_answers_as_itself_whatever_the_order(computer, graph, graphs):
    with filled(opened(computer, graph, graphs=graphs)) as runner:
        for task in ("cats", "dogs", "cats", "mugs", "mugs", "dogs", "cats"):
            runner.use(task)
            assert runner.task == task
            for count in (2, 5):
                got = runner.run(images(count, seed=count))
                assert got.shape == (count, TASKS[task])
                np.testing.assert_allclose(got, answer(graph, task, images(count, seed=count)), rtol=1e-4, atol=1e-5)


def test_there_and_back_gives_the_same_bits(computer, graph):
    with filled(opened(computer, graph)) as runner:
        before = {}
        for task in ("cats", "dogs", "cats", "dogs"):
            runner.use(task)
            bits = runner.run(images(4)).tobytes()
            assert before.setdefault(task, bits) == bits


def test_the_answer_is_that_of_the_task_built_in(tmp_path, graph):
    computer = machine()
    own = own_graph(tmp_path / "own.onnx", task_weights(SEEDS["dogs"]))
    with filled(opened(computer, graph)) as runner:
        runner.use("dogs")
        np.testing.assert_allclose(runner.run(images(3)), reference(own, images(3)), rtol=1e-4, atol=1e-5)
    computer.gpu.check()


def test_a_switch_copies_builds_and_captures_nothing(graph):
    computer = machine()
    with filled(opened(computer, graph)) as runner:
        batch = runner.load(images(2))
        for task in TASKS:
            runner.use(task)
            runner.launch(batch)
        before = computer.gpu.calls.copy()
        for task in list(TASKS) * 4:
            runner.use(task)
            runner.launch(batch)
        assert computer.gpu.calls - before == {"cudaGraphLaunch": 12}
    computer.gpu.check()


def test_without_graphs_a_switch_is_a_change_of_addresses(graph):
    computer = machine()
    with filled(opened(computer, graph, graphs=0)) as runner:
        batch = runner.load(images(2))
        before = computer.gpu.calls.copy()
        for task in TASKS:
            runner.use(task)
            runner.launch(batch)
        assert computer.gpu.calls == before
    computer.gpu.check()


def test_a_task_is_replaced_where_it_lies(graph):
    computer = machine()
    with filled(opened(computer, graph)) as runner:
        runner.use("cats")
        runner.run(images(2))
        used, captures = computer.gpu.used_bytes, computer.gpu.calls["cudaStreamBeginCapture"]
        runner.add("cats", task_weights(9), 4)
        expected = reference(graph, images(2), **task_weights(9))[:, :4]
        np.testing.assert_allclose(runner.run(images(2)), expected, rtol=1e-4, atol=1e-5)
        assert computer.gpu.used_bytes == used
        assert computer.gpu.calls["cudaStreamBeginCapture"] == captures
    computer.gpu.check()


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "run"]), st.sampled_from(sorted(TASKS))), max_size=12))
def test_tasks_come_and_go_between_calls(graph, steps):
    computer = machine()
    there = {}
    with opened(computer, graph, graphs=3) as runner:
        empty = computer.gpu.used_bytes
        for number, (step, task) in enumerate(steps):
            if step == "add":
                there[task] = number
                runner.add(task, task_weights(number), CLASSES)
            elif task not in there:
                with pytest.raises(ConfigError, match="not on the device"):
                    runner.remove(task) if step == "remove" else runner.use(task)
            elif step == "remove":
                del there[task]
                runner.remove(task)
            else:
                runner.use(task)
                expected = reference(graph, images(1), **task_weights(there[task]))
                np.testing.assert_allclose(runner.run(images(1)), expected, rtol=1e-4, atol=1e-5)
        assert set(runner.tasks) == set(there)
        assert computer.gpu.used_bytes == empty + sum(runner.memory.tasks_bytes.values())
    computer.gpu.check()


def test_memory_is_counted_by_task(graph):
    computer = machine()
    with opened(computer, graph) as runner:
        before = computer.gpu.used_bytes
        runner.add("cats", task_weights(1), 3)
        assert runner.memory.tasks_bytes == {"cats": computer.gpu.used_bytes - before}
        weights = sum(values.nbytes for values in task_weights(1).values())
        assert weights <= runner.memory.tasks_bytes["cats"] <= weights + 256 * len(task_weights(1))
        assert runner.memory.total_bytes == computer.gpu.used_bytes
    computer.gpu.check()


def test_no_task_in_use_is_said(graph):
    computer = machine()
    with filled(opened(computer, graph)) as runner:
        with pytest.raises(ConfigError, match=r"no task in use.*cats, dogs, mugs"):
            runner.run(images(1))
        runner.use("dogs")
        runner.run(images(1))
        assert runner.executor.graph_count == 1
        runner.remove("dogs")
        assert runner.executor.graph_count == 0
        with pytest.raises(ConfigError, match="no task in use"):
            runner.run(images(1))
    computer.gpu.check()


def test_every_misfit_is_named_and_nothing_is_kept(graph):
    computer = machine()
    weights = task_weights(1) | {"head.bias": np.full(CLASSES, np.nan), "other": np.zeros(3)}
    weights["head.weight"] = weights["head.weight"][:, 1:]
    del weights[f"{SITES[0]}.up"]
    with opened(computer, graph) as runner:
        used = computer.gpu.used_bytes
        with pytest.raises(ArtifactError) as caught:
            runner.add("cats", weights, 3)
        for fault in ("head.bias: holds", "other: the engine takes no", "head.weight: expected", ".up: missing"):
            assert fault in str(caught.value)
        with pytest.raises(ArtifactError, match=r"6 classes.*room for 5"):
            runner.add("cats", task_weights(1), 6)
        assert (computer.gpu.used_bytes, runner.tasks) == (used, ())
    computer.gpu.check()


@pytest.mark.parametrize(("function", "at"), [("cudaMalloc", 4), ("cudaMemcpyAsync", 0), ("cudaStreamSynchronize", 0)])
def test_a_task_that_cannot_be_put_there_leaves_nothing(graph, function, at):
    computer = machine(gpu=FakeCuda())
    with opened(computer, graph) as runner:
        used = computer.gpu.used_bytes
        computer.gpu.fail[function] = [2]
        with pytest.raises(CudaError):
            runner.add("cats", task_weights(1), 3)
        assert (computer.gpu.used_bytes, runner.tasks) == (used, ())
        filled(runner).use("cats")
        np.testing.assert_allclose(runner.run(images(1)), answer(graph, "cats", images(1)), rtol=1e-4, atol=1e-5)
    computer.gpu.check()


def test_an_engine_with_one_task_built_in_is_refused(tmp_path):
    computer = machine()
    with pytest.raises(ArtifactError, match="one task built in"):
        opened(computer, own_graph(tmp_path / "own.onnx", task_weights(1)))
    computer.gpu.check()
