from __future__ import annotations

import gc

import numpy as np
import pytest
from fake_runtime import machine
from running_samples import CLASSES, SITES, built, images, own_graph, reference, task_weights

from mimi_edge.errors import ArtifactError, ConfigError, EngineBuildError, MimiEdgeError
from mimi_edge.export.engines.running.executor import Plan
from mimi_edge.export.engines.running.refit import RefitRunner

VERSIONS = ("10.3", "10.15", "11.4")
TASKS = {"cats": 3, "dogs": 5}
ALL = tuple(task_weights(0))
SEEDS = {"cats": 1, "dogs": 2}


@pytest.fixture(params=VERSIONS)
def computer(request):
    made = machine(request.param)
    yield made
    made.gpu.check()


@pytest.fixture
def graph(tmp_path):
    return own_graph(tmp_path / "task.onnx", task_weights(0))


def opened(computer, graph, *, refittable=ALL, **options):
    plan = built(computer.bindings, graph, refittable=refittable)
    return RefitRunner(Plan(computer.bindings, plan, computer.gpu.open(), **options))


def filled(runner):
    for name, classes in TASKS.items():
        runner.add(name, task_weights(SEEDS[name]), classes)
    return runner


def answer(tmp_path, task, batch):
    path = own_graph(tmp_path / f"{task}.onnx", task_weights(SEEDS[task]))
    return reference(path, batch)[:, : TASKS[task]]


@pytest.mark.parametrize("graphs", [0, 8])
def test_there_and_back_gives_the_same_bits_and_each_task_answers_as_itself(computer, graph, tmp_path, graphs):
    with filled(opened(computer, graph, graphs=graphs)) as runner:
        assert set(runner.refittable) == set(task_weights(0))
        before = {}
        for task in ("cats", "dogs", "cats", "dogs"):
            assert runner.use(task) > 0
            assert runner.use(task) == 0
            gc.collect()
            for _ in range(2):
                got = runner.run(images(3))
                np.testing.assert_allclose(got, answer(tmp_path, task, images(3)), rtol=1e-4, atol=1e-5)
                assert before.setdefault(task, got.tobytes()) == got.tobytes()


def test_graphs_of_the_old_weights_are_dropped(graph):
    computer = machine()
    with filled(opened(computer, graph)) as runner:
        runner.use("cats")
        runner.run(images(2))
        assert runner.executor.graph_count == 1
        runner.use("dogs")
        assert runner.executor.graph_count == 0
    computer.gpu.check()


def test_weights_that_the_engine_joined_with_others_are_named(graph):
    computer = machine()
    given = [name for name in task_weights(0) if name != "head.bias"]
    with opened(computer, graph, refittable=given) as runner:
        runner.add("cats", {name: task_weights(1)[name] for name in given}, CLASSES)
        runner._refit._refitter._engine._plan["refittable"].append("head.bias")
        with pytest.raises(EngineBuildError, match=r"also wants new values of head\.bias"):
            runner.use("cats")
        assert runner.task is None
    del runner
    computer.gpu.check()


def test_a_failed_refit_leaves_no_task_in_use(graph):
    computer = machine()
    with filled(opened(computer, graph)) as runner:
        runner.use("dogs")
        computer.gpu.fail["refit"] = [1]
        with pytest.raises(MimiEdgeError):
            runner.use("cats")
        with pytest.raises(ConfigError, match=r"no task in use.*cats, dogs"):
            runner.run(images(1))
        runner.use("cats")
        runner.run(images(1))
    del runner
    computer.gpu.check()


def test_every_misfit_is_named(graph):
    computer = machine()
    weights = task_weights(1) | {"other": np.zeros(3), f"{SITES[0]}.up": np.zeros((3, 3))}
    weights["head.bias"] = np.full(CLASSES, np.inf)
    del weights["head.weight"]
    with opened(computer, graph) as runner:
        with pytest.raises(ArtifactError) as caught:
            runner.add("cats", weights, 3)
        for fault in ("other: the engine takes no", "head.weight: missing", ".up: expected 64 values, got 9", "holds"):
            assert fault in str(caught.value)
        with pytest.raises(ArtifactError, match="room for 5"):
            runner.add("cats", task_weights(1), 6)
        assert runner.tasks == ()
    computer.gpu.check()


def test_tasks_come_and_go(graph):
    computer = machine()
    with filled(opened(computer, graph)) as runner:
        runner.use("cats")
        runner.add("cats", task_weights(5), 2)
        assert runner.task is None
        runner.use("cats")
        assert runner.run(images(1)).shape == (1, 2)
        runner.remove("cats")
        with pytest.raises(ConfigError, match="cats is not on the device; there are: dogs"):
            runner.use("cats")
        assert (runner.tasks, runner.task) == (("dogs",), None)
    computer.gpu.check()


def test_an_engine_that_was_not_built_for_it_is_refused(graph):
    computer = machine()
    with pytest.raises(ArtifactError, match="--strategy refit"):
        opened(computer, graph, refittable=())
    computer.gpu.check()
