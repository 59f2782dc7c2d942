from __future__ import annotations

import numpy as np
import pytest
from fake_cuda import FakeCuda
from fake_runtime import machine
from running_samples import BATCHES, SITES, built, images, own_graph, reference, shared_graph, task_weights

from mimi_edge.errors import ArtifactError, ConfigError, MimiEdgeError
from mimi_edge.events import Note
from mimi_edge.export.engines.running.cuda import CudaError
from mimi_edge.export.engines.running.executor import Plan
from mimi_edge.export.engines.running.one_task import EngineRunner

VERSIONS = ("10.3", "10.15", "11.4")


@pytest.fixture(params=VERSIONS)
def computer(request):
    made = machine(request.param)
    yield made
    made.gpu.check()


@pytest.fixture
def graph(tmp_path):
    return own_graph(tmp_path / "task.onnx", task_weights(1))


def opened(computer, graph, **options):
    return EngineRunner(Plan(computer.bindings, built(computer.bindings, graph), computer.gpu.open(), **options))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 11])
@pytest.mark.parametrize("graphs", [0, 8])
def test_answers_are_those_of_onnx_runtime(computer, graph, count, graphs):
    with opened(computer, graph, graphs=graphs) as runner:
        for seed in (1, 2):
            got = runner.run(images(count, seed))
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, reference(graph, images(count, seed)), rtol=1e-5, atol=1e-6)


def test_a_batch_below_the_smallest_is_filled_up_and_cut_again(graph):
    computer = machine()
    ranges = {"images": [(3, 3, 4, 4), (4, 3, 4, 4), (4, 3, 4, 4)]}
    with EngineRunner(Plan(computer.bindings, built(computer.bindings, graph, ranges), computer.gpu.open())) as runner:
        assert runner.batches == (3, 4)
        for count in (1, 2, 5):
            np.testing.assert_allclose(runner.run(images(count)), reference(graph, images(count)), rtol=1e-5, atol=1e-6)
    computer.gpu.check()


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (3, 4, 4), (1, 3, 5, 4), (1, 1, 4, 4)])
def test_images_of_another_shape_are_refused(graph, shape):
    computer = machine()
    with opened(computer, graph) as runner, pytest.raises(ConfigError, match=r"\[B, 3, 4, 4\]; got"):
        runner.run(np.zeros(shape, np.float32))
    computer.gpu.check()


def test_each_size_of_batch_is_captured_once_and_launched_after(graph):
    computer = machine()
    with opened(computer, graph) as runner:
        for _ in range(5):
            runner.run(images(2))
            runner.run(images(4))
        assert runner.executor.graph_count == 2
    assert computer.gpu.calls["cudaStreamBeginCapture"] == 2
    assert computer.gpu.calls["cudaGraphLaunch"] == 8
    computer.gpu.check()


def test_a_graph_and_an_ordinary_run_give_the_same_bits(graph):
    computer = machine()
    with opened(computer, graph) as captured, opened(computer, graph, graphs=0) as plain:
        captured.run(images(4))
        assert np.array_equal(captured.run(images(4, 7)), plain.run(images(4, 7)))
        assert plain.executor.why_no_graphs == "switched off"
    computer.gpu.check()


def test_the_graph_unused_for_longest_goes_first(graph):
    computer = machine()
    with opened(computer, graph, graphs=2) as runner:
        for count in (1, 2, 1, 3, 1):
            runner.run(images(count))
        assert computer.gpu.calls["cudaStreamBeginCapture"] == 3
        runner.run(images(2))
        assert computer.gpu.calls["cudaStreamBeginCapture"] == 4
        assert runner.executor.graph_count == 2
    computer.gpu.check()


@pytest.mark.parametrize(
    "failure",
    [
        {"cudaStreamBeginCapture": [900]},
        {"cudaStreamEndCapture": [901]},
        {"cudaGraphInstantiateWithFlags": [2]},
        {"execute_async_v3": [0, 1]},
    ],
)
def test_without_capture_the_answers_stay_right_and_it_is_said(graph, failure):
    computer = machine(gpu=FakeCuda(fail=failure))
    heard = []
    with opened(computer, graph, listener=heard.append) as runner:
        for count in (2, 2, 4):
            np.testing.assert_allclose(runner.run(images(count)), reference(graph, images(count)), rtol=1e-5, atol=1e-6)
        assert runner.executor.why_no_graphs
    assert [type(event) for event in heard] == [Note]
    assert "without CUDA graphs" in heard[0].text
    assert computer.gpu.calls["cudaGraphLaunch"] == 0
    computer.gpu.check()


def test_tensorrt_for_rtx_is_captured_and_gives_the_same_bits_from_the_first_run_on(graph):
    computer = machine("rtx-1.7")
    with opened(computer, graph) as runner:
        answers = [runner.run(images(2)) for _ in range(3)]
        assert runner.executor.why_no_graphs is None
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])
    assert computer.gpu.calls["cudaGraphLaunch"] == 2
    computer.gpu.check()


def test_what_tensorrt_for_rtx_cannot_capture_is_not_tried(graph):
    computer = machine("rtx-1.7", gpu=FakeCuda(capturable=False))
    with opened(computer, graph) as runner:
        np.testing.assert_allclose(runner.run(images(2)), reference(graph, images(2)), rtol=1e-5, atol=1e-6)
        assert "cannot capture" in runner.executor.why_no_graphs
    assert computer.gpu.calls["cudaStreamBeginCapture"] == 0
    computer.gpu.check()


def test_marked_outputs_come_too(graph):
    computer = machine()
    plan = built(computer.bindings, graph, outputs=[SITES[0]])
    with EngineRunner(Plan(computer.bindings, plan, computer.gpu.open())) as runner:
        outputs = runner.run_all(images(5))
        assert set(outputs) == {"logits", SITES[0]}
        assert outputs[SITES[0]].shape == (5, 3, 16)
        np.testing.assert_allclose(outputs["logits"], reference(graph, images(5)), rtol=1e-5, atol=1e-6)
    computer.gpu.check()


def test_measuring_without_copies(graph):
    computer = machine()
    with opened(computer, graph) as runner:
        cuda, stream = runner.executor.cuda, runner.executor.stream
        batch = runner.load(images(3))
        before = computer.gpu.clock_ms
        runner.launch(batch)
        cuda.wait(stream)
        assert computer.gpu.clock_ms > before
    computer.gpu.check()


def test_memory_is_counted(graph):
    computer = machine()
    with opened(computer, graph) as runner:
        memory = runner.memory
        assert memory.engine_bytes == computer.gpu.reserved > 0
        assert memory.scratch_bytes == 2000
        largest = BATCHES[-1]
        assert memory.buffers_bytes == largest * (3 * 4 * 4 + 5) * 4
        assert memory.total_bytes == computer.gpu.used_bytes
    computer.gpu.check()


@pytest.mark.parametrize("at", range(12))
@pytest.mark.parametrize("function", ["cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags", "cudaMemcpyAsync"])
def test_whatever_fails_everything_is_given_back(graph, function, at):
    computer = machine(gpu=FakeCuda(fail={function: [0] * at + [2]}))
    failure = _run_through(computer, graph)
    was_met = not computer.gpu.fail[function]
    assert (failure is not None) == was_met
    assert failure is None or failure.code == 2
    computer.gpu.check()


def _run_through(computer, graph):
    """How loading, running and closing ended."""
    try:
        with opened(computer, graph) as runner:
            for count in (1, 4, 7):
                runner.run(images(count))
    except CudaError as error:
        return CudaError(str(error), error.code)  # without the frames, which keep the engine alive
    return None


def test_out_of_memory_says_how_much_was_there(graph):
    computer = machine(gpu=FakeCuda(fail={"cudaMalloc": [2]}))
    with pytest.raises(MimiEdgeError, match=r"out of memory: .* MB of .* MB are free") as caught:
        opened(computer, graph)
    assert "--batch" in str(caught.value)
    del caught
    computer.gpu.check()


def test_an_error_of_the_device_is_not_hidden_by_those_that_follow(graph):
    computer = machine()
    broken = {"cudaStreamSynchronize": [700] * 9, "cudaFree": [700] * 9, "cudaFreeHost": [700] * 9}
    with pytest.raises(CudaError, match="cudaErrorIllegalAddress") as caught, opened(computer, graph) as runner:  # noqa: PT012
        computer.gpu.fail |= broken
        runner.run(images(1))
    assert "cudaStreamSynchronize" in str(caught.value)


def test_closing_twice_and_using_what_is_closed(graph):
    computer = machine()
    runner = opened(computer, graph)
    runner.run(images(1))
    runner.close()
    runner.close()
    with pytest.raises(MimiEdgeError, match="closed already"):
        runner.run(images(1))
    computer.gpu.check()


def test_a_plan_of_another_gpu_is_explained(graph):
    computer = machine()
    plan = built(computer.bindings, graph)
    computer.world.gpu = "8.6"
    with pytest.raises(MimiEdgeError):
        EngineRunner(Plan(computer.bindings, plan, computer.gpu.open()))
    computer.gpu.check()


def test_an_engine_that_several_tasks_share_is_refused(tmp_path):
    computer = machine()
    with pytest.raises(ArtifactError, match="expected only images"):
        opened(computer, shared_graph(tmp_path / "shared.onnx"))
    computer.gpu.check()
