from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from export_samples import random_images
from hypothesis import given
from hypothesis import strategies as st
from onnx import parser
from precision_samples import merged, relative_difference, saved, tolerance, with_planted_overflow

from mimi_edge.choices import Precision
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Advance
from mimi_edge.export.graphs import describe, load_graph, read_graph_info
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.precision import ranges as ranges_module
from mimi_edge.export.precision.half import infer_types, to_half
from mimi_edge.export.precision.ranges import FP16_LARGEST, Look, find_ranges, overflowing

HEADER = '<ir_version: 10, opset_import: ["" : 20]>\n'


def value_ranges(graph, images, *, feeds=None, **options):
    """The largest absolute values of a graph on some images."""
    return find_ranges(graph, [Look(images, feeds or {})], **options).largest


def _toy(exported, folder, text: str):
    """A graph of a few nodes that says of itself what one of ours says."""
    info = read_graph_info(merged(exported, folder))
    model = ir.from_proto(parser.parse_model(HEADER + text))
    describe(model, info)
    return saved(model, folder / "toy.onnx")


def _fetched(path, images) -> dict[str, float]:
    """The same the plain way: every value is an output."""
    model = load_graph(path)
    infer_types(model)
    values = [value for node in model.graph for value in node.outputs if value.dtype is ir.DataType.FLOAT]
    model.graph.outputs.extend(value for value in values if value not in model.graph.outputs)
    session = open_graph(saved(model, path.with_name("fetched.onnx"))).session
    names = [value.name for value in model.graph.outputs]
    outputs = session.run(names, {"images": images})
    return {name: float(np.abs(output).max()) for name, output in zip(names, outputs, strict=True)}


@pytest.mark.parametrize("family", ["vit", "swinv2"])
def test_ranges_are_those_of_the_activations(family, exported, tmp_path):
    path = merged(exported, tmp_path, family)
    images = random_images(5)
    before = sorted(tmp_path.iterdir())
    ranges = value_ranges(path, images, batch=2)
    assert sorted(tmp_path.iterdir()) == before
    expected = _fetched(path, images)
    assert set(expected) <= set(ranges)
    assert {name: ranges[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert ranges["images"] == np.abs(images).max()
    weights = load_graph(path).graph.initializers
    assert ranges["layers.0.blocks.0.attn.down" if family == "swinv2" else "blocks.0.attn.down"] > 0
    assert {name for name, value in weights.items() if value.dtype is ir.DataType.FLOAT} <= set(ranges)


def test_looks_take_turns_in_one_graph_that_is_opened_once(exported, tmp_path, monkeypatch):
    path = merged(exported, tmp_path)
    opened = []
    monkeypatch.setattr(ranges_module, "open_graph", lambda *a, **b: opened.append(a) or open_graph(*a, **b))
    looks = [Look(random_images(5, seed=1)), Look(random_images(3, seed=2))]
    heard = []
    found = find_ranges(path, looks, batch=2, listener=heard.append)
    assert len(opened) == 1
    assert found.images == 8
    assert [(event.done, event.total) for event in heard] == [(done, 8) for done in (0, 2, 4, 6, 7, 8)]
    apart = [value_ranges(path, look.images) for look in looks]
    assert found.largest == {name: pytest.approx(max(one[name] for one in apart), rel=1e-5) for name in apart[0]}


def test_looking_ends_after_its_time_with_what_was_seen(exported, tmp_path):
    found = find_ranges(merged(exported, tmp_path), [Look(random_images(6))], batch=2, seconds=0)
    assert found.images == 2


def test_partial_sums_of_attention_count_and_those_of_layers_do_not(exported, tmp_path):
    """32 times 900, then 32 times -900: the sum ends at 0, and was at 28800 on the way."""
    text = """
toy (float[batch, 3, 32, 32] images) => (float[batch, 3, 32, 32] logits)
<float minus = {-1}, float[32, 32] weight = {WEIGHT}>
{
    turned = Mul (images, minus)
    both = Concat <axis = 3> (images, turned)
    again = Concat <axis = 2> (images, images)
    product = MatMul (both, again)
    logits = MatMul (product, weight)
}
""".replace("WEIGHT", ", ".join(["1"] * 1024))
    images = np.full((1, 3, 32, 32), 30.0, np.float32)
    found = find_ranges(_toy(exported, tmp_path, text), [Look(images)])
    assert found.largest["product"] == pytest.approx(0, abs=1e-2)
    assert found.partial_sums == {"product": pytest.approx(30 * 30 * 64)}
    assert overflowing(found.largest, Precision.FP16, partial_sums=found.partial_sums) == {
        "product": "overflow of partial sums: 57600 > 65504 / 4"
    }


def test_planted_overflow_is_found_and_kept_in_fp32(exported, tmp_path):
    path = with_planted_overflow(merged(exported, tmp_path))
    images = random_images(4)
    expected = open_graph(path).run(images)
    assert relative_difference(expected, open_graph(tmp_path / "sample.onnx").run(images)) < 1e-4

    naive = load_graph(path)
    to_half(naive, Precision.FP16)
    wrong = open_graph(saved(naive, tmp_path / "naive.onnx")).run(images)
    assert relative_difference(wrong, expected) > 0.1

    found = overflowing(value_ranges(path, images), Precision.FP16)
    mended = load_graph(path)
    kept = to_half(mended, Precision.FP16, found)
    right = open_graph(saved(mended, tmp_path / "mended.onnx")).run(images)
    assert relative_difference(right, expected) <= tolerance(Precision.FP16)
    overflows = [layer for layer in kept if layer.reason.startswith("overflow: ")]
    assert {"MatMul", "Add", "Slice"} <= {layer.op_type for layer in overflows}
    assert all(layer.reason.endswith(" > 65504 / 4") for layer in overflows)
    # Only where it is needed: the second block has none.
    assert not any(name.startswith("blocks.1") for name in found)
    assert len(overflows) < len(list(mended.graph)) / 3


def test_overflow_of_the_planted_kind_is_none_in_bf16(exported, tmp_path):
    path = with_planted_overflow(merged(exported, tmp_path))
    assert overflowing(value_ranges(path, random_images(2)), Precision.BF16) == {}


@given(
    largest=st.floats(0, 1e6) | st.just(float("inf")),
    margin=st.floats(1, 100),
    precision=st.sampled_from(Precision),
)
def test_exactly_what_fp16_cannot_hold_with_the_margin_overflows(largest, margin, precision):
    found = overflowing({"value": largest}, precision, margin)
    computes_in_fp16 = precision in {Precision.FP16, Precision.INT8}
    assert set(found) == ({"value"} if computes_in_fp16 and largest > FP16_LARGEST / margin else set())


def test_reason_of_an_overflow_gives_the_figures():
    assert overflowing({"a": 81234.4, "b": 7.0}, Precision.FP16) == {"a": "overflow: 81234 > 65504 / 4"}


@pytest.mark.parametrize("margin", [0.5, 0, -1, float("nan")])
def test_margin_below_one_is_refused(margin):
    with pytest.raises(ConfigError, match="1 or more"):
        overflowing({}, Precision.FP16, margin)


def test_infinite_mask_is_kept_out_of_fp16(exported, tmp_path):
    text = """
    g (float[b, 3, 32, 32] images) => (float[b, 3, 32, 32] logits)
    <float[2] mask = {0, -1e30}>
    { far = ReduceMin <keepdims=0> (mask) masked = Add(images, far) logits = Softmax(masked) }
    """
    ranges = value_ranges(_toy(exported, tmp_path, text), random_images(1))
    assert set(overflowing(ranges, Precision.FP16)) == {"mask", "far", "masked"}


OTHER_INPUTS = """
g (float[b, 3, 32, 32] images, float scale, float[b, 1, 1, 1] each) => (float[b, 3, 32, 32] logits)
{ scaled = Mul(images, scale) logits = Mul(scaled, each) }
"""


def test_other_inputs_are_fed_whole_or_a_row_an_image(exported, tmp_path):
    path = _toy(exported, tmp_path, OTHER_INPUTS)
    images = random_images(5)
    each = np.arange(1, 6, dtype=np.float32).reshape(5, 1, 1, 1)
    ranges = value_ranges(path, images, feeds={"scale": np.array(3, np.float32), "each": each}, batch=2)
    assert ranges["scale"] == 3
    assert ranges["each"] == 5
    assert ranges["logits"] == pytest.approx(np.abs(images * 3 * each).max())
    with pytest.raises(ConfigError, match="each, scale"):
        value_ranges(path, images)


def test_what_is_not_a_number_is_refused_by_name(exported, tmp_path):
    images = random_images(3)
    images[2, 0, 0, 0] = np.nan
    with pytest.raises(ArtifactError, match="not a number at images"):
        value_ranges(merged(exported, tmp_path), images, batch=1)


def test_no_images_are_refused_and_progress_is_told(exported, tmp_path):
    path = merged(exported, tmp_path)
    with pytest.raises(ConfigError, match="there are none"):
        value_ranges(path, random_images(0))
    heard = []
    value_ranges(path, random_images(3), batch=2, listener=heard.append)
    assert heard == [Advance("value ranges", done, 3) for done in (0, 2, 3)]
