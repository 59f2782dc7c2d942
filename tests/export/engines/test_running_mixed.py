from __future__ import annotations

import numpy as np
import pytest
from fake_runtime import machine
from hypothesis import given
from hypothesis import strategies as st
from running_samples import CLASSES, SIZE, built, images, mixed_graph, reference, shared_graph, task_weights

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.engines.running.cuda import CudaError
from mimi_edge.export.engines.running.executor import Plan
from mimi_edge.export.engines.running.mixed import MixedRunner, parts_of_answers

VERSIONS = ("10.3", "10.15", "11.4")
TASKS = {"cats": 3, "dogs": 5, "mugs": 2}
SEEDS = {name: seed for seed, name in enumerate(TASKS, start=1)}


@pytest.fixture(params=VERSIONS)
def computer(request):
    made = machine(request.param)
    yield made
    made.gpu.check()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    mixed_graph(folder / "mixed.onnx")
    shared_graph(folder / "shared.onnx")
    return folder


def ranges(frames=(1, 2, 3), answers=(1, 2, 4), tasks=(1, 2, 4)):
    indices = [(count,) for count in answers]
    banks = {name: [(count, *values.shape) for count in tasks] for name, values in task_weights(0).items()}
    return {
        "images": [(count, 3, SIZE, SIZE) for count in frames],
        "frame_of_answer": indices,
        "task_of_answer": indices,
        **banks,
    }


def opened(computer, folder, *, graphs=64, **limits):
    plan = built(computer.bindings, folder / "mixed.onnx", ranges(**limits))
    return MixedRunner(Plan(computer.bindings, plan, computer.gpu.open(), graphs=graphs))


def filled(runner):
    for name, classes in TASKS.items():
        runner.add(name, task_weights(SEEDS[name]), classes)
    return runner


def expected(folder, image, task):
    return reference(folder / "shared.onnx", image[None], **task_weights(SEEDS[task]))[0, : TASKS[task]]


def assert_answers(folder, got, batch, frames, tasks):
    assert len(got) == len(frames)
    for logits, frame, task in zip(got, frames, tasks, strict=True):
        np.testing.assert_allclose(logits, expected(folder, batch[frame], task), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("graphs", [0, 64])
@pytest.mark.parametrize("smallest", [1, 2])
def test_each_answer_is_that_of_its_task_about_its_frame(computer, folder, graphs, smallest):
    limits = {"frames": (smallest, 2, 3), "answers": (smallest, 2, 4)}
    with filled(opened(computer, folder, graphs=graphs, **limits)) as runner:
        frames, tasks = [4, 0, 0, 3, 4, 2, 1], ["dogs", "cats", "mugs", "dogs", "cats", "cats", "mugs"]
        for seed in (1, 2):
            batch = images(5, seed)
            assert_answers(folder, runner.answer(batch, frames, tasks), batch, frames, tasks)
        assert_answers(folder, runner.answer(batch, [1], ["mugs"]), batch, [1], ["mugs"])


def test_all_tasks_answer_one_frame_in_one_pass(folder):
    computer = machine()
    with filled(opened(computer, folder)) as runner:
        image = images(1)[0]
        runner.all_tasks(image)
        launches = computer.gpu.calls["cudaGraphLaunch"]
        answers = runner.all_tasks(image)
        assert computer.gpu.calls["cudaGraphLaunch"] == launches + 1
        assert {name: len(logits) for name, logits in answers.items()} == TASKS
        for name, logits in answers.items():
            np.testing.assert_allclose(logits, expected(folder, image, name), rtol=1e-4, atol=1e-5)
    computer.gpu.check()


def test_a_full_bank_doubles_and_keeps_what_it_holds(folder):
    computer = machine()
    with opened(computer, folder) as runner:
        sizes = []
        for name, classes in TASKS.items():
            runner.add(name, task_weights(SEEDS[name]), classes)
            assert runner.executor.graph_count == 0  # they had the old addresses
            sizes.append(computer.gpu.used_bytes)
            image = images(1)[0]
            for known, logits in runner.all_tasks(image).items():
                np.testing.assert_allclose(logits, expected(folder, image, known), rtol=1e-4, atol=1e-5)
        place = sum(values.nbytes for values in task_weights(0).values())
        assert np.diff(sizes).tolist() == [place, 2 * place]
        assert runner.memory.tasks_bytes == dict.fromkeys(TASKS, place) | {"free places": place}
        assert runner.memory.total_bytes == computer.gpu.used_bytes
        runner.add("pots", task_weights(7), 5)
        with pytest.raises(ConfigError, match=r"room for 4 tasks at once, and one more"):
            runner.add("one more", task_weights(8), 5)
        assert runner.tasks == ("cats", "dogs", "mugs", "pots")
    computer.gpu.check()


def test_a_place_is_used_again_and_a_task_is_replaced_where_it_lies(folder):
    computer = machine()
    with filled(opened(computer, folder)) as runner:
        used = computer.gpu.used_bytes
        runner.remove("cats")
        with pytest.raises(ConfigError, match="cats is not on the device; there are: dogs, mugs"):
            runner.answer(images(1), [0], ["cats"])
        runner.add("pots", task_weights(7), CLASSES)
        runner.add("dogs", task_weights(8), CLASSES)
        pots, dogs = runner.answer(images(1), [0, 0], ["pots", "dogs"])
        for got, seed in ((pots, 7), (dogs, 8)):
            whole = reference(folder / "shared.onnx", images(1), **task_weights(seed))[0]
            np.testing.assert_allclose(got, whole, rtol=1e-4, atol=1e-5)
        assert computer.gpu.used_bytes == used
    computer.gpu.check()


def test_no_memory_to_grow_leaves_the_bank_as_it_was(folder):
    computer = machine()
    with opened(computer, folder) as runner:
        runner.add("cats", task_weights(SEEDS["cats"]), TASKS["cats"])
        used = computer.gpu.used_bytes
        computer.gpu.fail["cudaMalloc"] = [0, 0, 2]
        with pytest.raises(CudaError, match="out of memory"):
            runner.add("dogs", task_weights(SEEDS["dogs"]), TASKS["dogs"])
        assert (runner.tasks, computer.gpu.used_bytes) == (("cats",), used)
        assert_answers(folder, runner.answer(images(1), [0], ["cats"]), images(1), [0], ["cats"])
    computer.gpu.check()


@pytest.mark.parametrize(
    ("frames", "tasks", "said"),
    [
        ([], [], "0 numbers of images"),
        ([0, 1], ["cats"], "2 numbers of images, 1 tasks"),
        ([0, 2], ["cats", "cats"], r"images 0\.\.1; answers ask for \[2\]"),
        ([-1], ["cats"], "ask for"),
        ([0], ["pots"], "pots is not on the device"),
    ],
)
def test_what_is_not_there_is_refused(folder, frames, tasks, said):
    computer = machine()
    with filled(opened(computer, folder)) as runner, pytest.raises(ConfigError, match=said):
        runner.answer(images(2), frames, tasks)
    computer.gpu.check()


def test_an_engine_for_one_task_a_batch_is_refused(folder):
    computer = machine()
    plan = built(computer.bindings, folder / "shared.onnx")
    with pytest.raises(ArtifactError, match="frame_of_answer"):
        MixedRunner(Plan(computer.bindings, plan, computer.gpu.open()))
    computer.gpu.check()


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 4), st.integers(1, 6))
def test_parts_hold_every_answer_once_in_order_and_no_more_than_fits(frames, most_frames, most_answers):
    parts = list(parts_of_answers(frames, most_frames, most_answers))
    assert [number for part in parts for number in part.answers] == list(range(len(frames)))
    for part in parts:
        assert 1 <= len(part.answers) <= most_answers
        assert 1 <= len(part.frames) <= most_frames
        assert set(part.frames) == {frames[number] for number in part.answers}
