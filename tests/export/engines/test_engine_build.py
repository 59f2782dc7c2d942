"""Building from end to end on every recorded version: nothing asks for what a version does not have."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from engine_samples import RANGES, digest, fake_bindings, small_graph
from fake_tensorrt import VERSIONS, World

from mimi_edge.errors import ConfigError, EngineBuildError, MimiEdgeError, StoppedError
from mimi_edge.events import Advance, Note
from mimi_edge.export.engines.building.build import build_engine
from mimi_edge.export.engines.building.requests import BatchRange, BuildRequest
from mimi_edge.export.engines.building.timing_caches import CacheUse
from mimi_edge.export.engines.tensorrt.tensors import EngineTensor

ALL = (*VERSIONS, "rtx-1.7")


@pytest.fixture(params=ALL)
def version(request):
    return request.param


@pytest.fixture
def graph(tmp_path):
    return small_graph(tmp_path)


def plan_of(built):
    return json.loads(bytes(built.plan))


@pytest.mark.parametrize("version", ["10.3", "10.15"])
def test_a_kernel_behind_a_cast_must_say_its_size_to_10_3(version, tmp_path):
    text = """
<ir_version: 9, opset_import: ["" : 20]>
small (float[batch, 3, 8, 8] images) => (float[batch, 2, 7, 7] logits)
<float16[2, 3, 2, 2] stored = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}>
{
    kernel = Cast <to = 1> (stored)
    logits = Conv (images, kernel)
}
"""
    request = BuildRequest(small_graph(tmp_path, text), RANGES)
    if version == "10.3":
        with pytest.raises(EngineBuildError, match="incorrect number of dimensions"):
            build_engine(fake_bindings(version), request)
    else:
        assert build_engine(fake_bindings(version), request).size_bytes


def test_a_build_gives_the_plan_and_what_is_known_about_it(version, graph, tmp_path):
    heard = []
    request = BuildRequest(graph, RANGES, label="x.engine", workspace_bytes=1000, optimization_level=3)
    built = build_engine(fake_bindings(version), request, listener=heard.append)
    plan = plan_of(built)
    assert plan["graph"] == str(graph)
    assert plan["profiles"] == [{"images": [[1, 3], [8, 3], [32, 3]]}]
    assert plan["pools"] == {"WORKSPACE": 1000}
    # TensorRT for RTX captures CUDA graphs only of engines that were built for it.
    assert plan["flags"] == (["REQUIRE_USER_ALLOCATION"] if version.startswith("rtx") else [])
    assert plan["refittable"] == []
    assert built.tensors == (
        EngineTensor("images", "input", "float32", (-1, 3)),
        EngineTensor("logits", "output", "float32", (-1, 3)),
    )
    assert built.layers == ("node 0", "node 1", "node 2", "node 3")
    assert (built.timing_cache, built.warnings) == (CacheUse.UNWANTED, ())
    assert [event.stage for event in heard] == ["Building x.engine"] * len(heard)
    assert (heard[0].done, heard[-1].done, heard[-1].total) == (0, 100, 100)
    built.write(tmp_path / "x.engine")
    content = (tmp_path / "x.engine").read_bytes()
    assert (digest(content), len(content)) == (built.sha256, built.size_bytes)


def test_only_the_weights_that_were_named_are_refittable(version, graph):
    built = build_engine(fake_bindings(version), BuildRequest(graph, RANGES, refittable=frozenset({"down", "up"})))
    assert "REFIT_INDIVIDUAL" in plan_of(built)["flags"]
    assert plan_of(built)["refittable"] == ["down", "up"]


def test_weights_that_do_not_exist_cannot_be_refittable(version, graph):
    with pytest.raises(EngineBuildError, match="refittable: downn, upp"):
        build_engine(fake_bindings(version), BuildRequest(graph, RANGES, refittable=frozenset({"upp", "up", "downn"})))


def test_more_refittable_weights_than_were_named_are_refused(version, graph):
    loaded = fake_bindings(version)
    mark = loaded.module.INetworkDefinition.mark_weights_refittable
    loaded.module.INetworkDefinition.mark_weights_refittable = lambda self, name: (
        mark(self, "bias") and mark(self, name)
    )
    with pytest.raises(EngineBuildError, match="more weights refittable than asked for: bias"):
        build_engine(loaded, BuildRequest(graph, RANGES, refittable=frozenset({"up"})))


def test_values_become_outputs_by_name_and_once(version, graph):
    built = build_engine(fake_bindings(version), BuildRequest(graph, RANGES, marked=("hidden", "logits", "wide")))
    assert [one.name for one in built.tensors if one.mode == "output"] == ["logits", "hidden", "wide"]


def test_a_value_that_nobody_computes_is_no_output(version, graph):
    with pytest.raises(ConfigError, match="computes nothing called hiden"):
        build_engine(fake_bindings(version), BuildRequest(graph, RANGES, marked=("hiden", "wide")))


MIXED = """
<ir_version: 10, opset_import: ["" : 20]>
mixed (float[frames, 3] images, int32[answers] frame_of_answer, float16[tasks, 3] bank) => (float[answers, 3] logits)
{
    picked = Gather (images, frame_of_answer)
    half = Cast <to = 10> (picked)
    row = ReduceMax (bank)
    sum = Add (half, row)
    logits = Cast <to = 1> (sum)
}
"""


def test_each_dimension_has_its_own_range_by_name(version, tmp_path):
    ranges = {"frames": BatchRange(1, 1, 4), "answers": BatchRange(1, 8, 32), "tasks": BatchRange(1, 8, 8)}
    built = build_engine(fake_bindings(version), BuildRequest(small_graph(tmp_path, MIXED), ranges))
    assert plan_of(built)["profiles"] == [
        {
            "images": [[1, 3], [1, 3], [4, 3]],
            "frame_of_answer": [[1], [8], [32]],
            "bank": [[1, 3], [8, 3], [8, 3]],
        }
    ]
    assert [one.dtype for one in built.tensors] == ["float32", "int32", "float16", "float32"]


def test_dimensions_without_a_range_are_all_named(version, tmp_path):
    with pytest.raises(ConfigError, match="answers, frames; got sizes for tasks"):
        build_engine(fake_bindings(version), BuildRequest(small_graph(tmp_path, MIXED), {"tasks": BatchRange(1, 8, 8)}))


def test_a_graph_without_varying_sizes_needs_no_profile(version, tmp_path):
    text = "<ir_version: 10, opset_import: ['' : 20]> g (float[2, 3] x) => (float[2, 3] y) { y = Relu (x) }"
    built = build_engine(fake_bindings(version), BuildRequest(small_graph(tmp_path, text.replace("'", '"'))))
    assert plan_of(built)["profiles"] == []


def test_every_fault_of_the_parser_is_listed_with_its_node(version, graph):
    world = World(parser_errors=[("node 7", "Attention", "not supported"), ("", "", "no initializer for up")])
    with pytest.raises(EngineBuildError) as caught:
        build_engine(fake_bindings(version, world), BuildRequest(graph, RANGES))
    assert "node 'node 7' (Attention): not supported" in str(caught.value)
    assert "  - no initializer for up" in str(caught.value)


def test_a_graph_that_is_refused_without_a_word_is_explained_by_the_log(version, graph):
    world = World(fail={"parse": ("ERROR", "std::bad_alloc: out of memory")})
    with pytest.raises(EngineBuildError, match="memory is not enough"):
        build_engine(fake_bindings(version, world), BuildRequest(graph, RANGES))


@pytest.mark.parametrize(
    ("doing", "message", "kind", "text"),
    [
        ("builder", "CUDA initialization failure with error: 35", MimiEdgeError, "no NVIDIA driver"),
        ("build", "Error Code 2: OutOfMemory (no further information)", EngineBuildError, "smaller maximum in --batch"),
        ("build", "who knows", EngineBuildError, "who knows"),
    ],
)
def test_a_failure_is_explained_in_the_engines_name(version, graph, doing, message, kind, text):
    heard = []
    world = World(fail={doing: ("ERROR", message)})
    with pytest.raises(kind, match=text):
        build_engine(fake_bindings(version, world), BuildRequest(graph, RANGES), listener=heard.append)
    assert all(event.done < 100 for event in heard)


def test_a_driverless_build_asks_for_compute_capabilities(graph):
    built = build_engine(
        fake_bindings("rtx-1.7"), BuildRequest(graph, RANGES, compute_capabilities=("8.6", "8.9", "12.0"))
    )
    assert plan_of(built)["capabilities"] == ["SM86", "SM89", "SM120"]


# Stopping.


def test_a_request_to_stop_ends_the_build(version, graph, tmp_path):
    world = World()
    asked = []
    world.during_build = asked.append
    with pytest.raises(StoppedError, match=r"while building x\.engine.*same command"):
        build_engine(
            fake_bindings(version, world),
            BuildRequest(graph, RANGES, label="x.engine"),
            timing_cache=tmp_path / "cache" / "t.timing",
            should_stop=lambda: len(asked) == 2,
        )
    assert asked == [0, 1]
    assert not (tmp_path / "cache").exists()


def test_what_a_listener_raises_comes_out(version, graph):
    def broken(event):
        if isinstance(event, Advance) and event.done:
            raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError, match="nobody reads"):
        build_engine(fake_bindings(version), BuildRequest(graph, RANGES), listener=broken)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_stops_the_build_and_is_not_lost(version, graph):
    world, steps = World(), []

    def interrupt(step):
        steps.append(step)
        if step == 0:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)  # the main thread takes the signal meanwhile

    world.during_build = interrupt
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build_engine(fake_bindings(version, world), BuildRequest(graph, RANGES))
        came_back_after = len(steps)
        time.sleep(0.3)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert came_back_after == len(steps) < 5, "the build was not waited for, or not stopped"


# With a timing cache.


def test_a_timing_cache_is_new_then_reused_then_extended(version, graph, tmp_path):
    world, heard = World(), []
    cache = tmp_path / "cache" / "t.timing"

    def use():
        loaded = fake_bindings(version, world)
        return build_engine(loaded, BuildRequest(graph, RANGES), timing_cache=cache, listener=heard.append).timing_cache

    uses = [use(), use()]
    world.cache_entries = {"gemm", "softmax"}
    uses.append(use())
    if version == "rtx-1.7":
        assert uses == [CacheUse.UNSUPPORTED] * 3
        assert not cache.exists()
    else:
        assert uses == [CacheUse.NEW, CacheUse.REUSED, CacheUse.EXTENDED]
    assert not [event for event in heard if isinstance(event, Note)]
