from __future__ import annotations

import shutil

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from export_samples import FAMILIES, random_images, random_task
from shared_samples import assert_answers, loaded, merged_logits

from mimi_edge.errors import ArtifactError
from mimi_edge.export.graphs import graph_info, load_graph
from mimi_edge.export.shared.graph import shared_model
from mimi_edge.export.shared.inputs import answer_indices, bank_of
from mimi_edge.export.shared.layout import layout_of
from mimi_edge.export.shared.prefix import PrefixCut, after_adapters
from mimi_edge.export.shared.shapes import flops_of, shapes_of

IMAGES = random_images(3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mixed", [False, True])
def test_blocks_before_the_first_used_site_are_saved(family, mixed, exported):
    backbone, graph = exported(family)
    sites = [site.name for site in backbone.sites]
    for first, site in enumerate(sites):
        tasks = [random_task(backbone, {site: 2, sites[-1]: 1}), random_task(backbone, {sites[-1]: 3})]
        shared = shared_model(graph.path, layout_of(tasks), mixed=mixed)
        assert shared.prefix.of_blocks == len(sites) // 2
        assert shared.prefix.blocks == first // 2
        assert shared.saved_blocks == (first // 2 if mixed else 0)


def test_without_adapters_the_whole_backbone_is_shared(exported):
    backbone, graph = exported("swin")
    prefix = shared_model(graph.path, layout_of([random_task(backbone, {})]), mixed=True).prefix
    assert (prefix.blocks, prefix.of_blocks, prefix.flops_share) == (3, 3, 1.0)


def test_the_share_of_flops_grows_with_the_first_site_and_counts_products_exactly(exported):
    backbone, graph = exported("vit")
    shares = [
        shared_model(graph.path, layout_of([random_task(backbone, {site.name: 1})])).prefix.flops_share
        for site in backbone.sites
    ]
    assert shares == sorted(shares)
    assert shares[0] > 0
    # 16 patches and a class token of width 32, two blocks: patches, then qkv, both products of attention, out, mlp.
    patches, tokens, width = 16, 17, 32
    block = tokens * width * (3 * width + width + 8 * width) + 2 * tokens * tokens * width
    whole = 2 * (patches * 3 * 8 * 8 * width + 2 * block)
    model = load_graph(graph.path)
    assert flops_of(model.graph, shapes_of(model)) == whole
    assert shares[2] == pytest.approx(1 - 2 * tokens * width * 8 * width / whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prefix_runs_for_each_frame_and_the_rest_for_each_answer(family, exported, tmp_path):
    backbone, graph = exported(family)
    folder = tmp_path / family
    shutil.copytree(graph.folder, folder)
    sites = [site.name for site in backbone.sites]
    first = sites[2]
    task = random_task(backbone, {first: 2, sites[-1]: 1})
    shared = shared_model(graph.path, layout_of([task]), mixed=True)
    values = {value.name: value for node in shared.model.graph for value in node.outputs}
    watched = [sites[0], sites[1], first, f"{first}.adapted", sites[3], f"{sites[-1]}.adapted"]
    one = shapes_of(load_graph(graph.path)).one
    for name in watched:
        values[name].shape = ir.Shape([f"rows of {name}", *one[name.removesuffix(".adapted")][1:]])
        values[name].type = ir.TensorType(ir.DataType.FLOAT)
        shared.model.graph.outputs.append(values[name])
    session = loaded(shared, folder)
    answers = [(2, 0), (0, 0), (2, 0), (1, 0), (2, 0)]
    got = session.run(
        None, {"images": IMAGES, **bank_of([task], shared.layout), **answer_indices(answers, frames=3, tasks=1)}
    )
    assert_answers(got[0], merged_logits(folder, task, IMAGES)[[frame for frame, _ in answers]])
    rows = [
        found.shape[0] // one[name.removesuffix(".adapted")][0] for name, found in zip(watched, got[1:], strict=True)
    ]
    assert rows == [3, 3, 3, 5, 5, 5]


LATE_CLASS_EMBEDDING = """
<ir_version: 10, opset_import: ["" : 20]>
late_token (float[batch, 3, 4, 4] images) => (float[batch, 6] features)
<float[1, 1, 3] token = {1, 2, 3}, int64[3] rows = {-1, 3, 16}, int64[1] one = {1}, int64[1] zero = {0},
 int64[2] flat = {-1, 6}, int64[2] ends = {0, 16}>
{
    batch = Shape <start = 0, end = 1> (images)
    view = Reshape (images, rows)
    early = Transpose <perm = [0, 2, 1]> (view)
    site = Relu (early)
    whole = Shape (early)
    count = Gather <axis = 0> (whole, zero)
    like = Concat <axis = 0> (count, one, one)
    sizes = Concat <axis = 0> (batch, one, one)
    token_of_all = Expand (token, sizes)
    token_again = Expand (token, like)
    joined = Concat <axis = 1> (token_of_all, site)
    summed = Add (joined, token_again)
    kept = Gather <axis = 1> (summed, ends)
    features = Reshape (kept, flat)
}
"""


def test_sizes_that_the_rest_reads_are_those_of_the_answers():
    """A class token that joins after the first adapter is repeated for answers, not for frames."""
    model = ir.from_onnx_text(LATE_CLASS_EMBEDDING)
    bare = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    shapes = shapes_of(model)
    values = {value.name: value for node in model.graph for value in node.outputs}
    rest = after_adapters(model.graph, {"site": values["site"]})
    index = ir.Value(name="index", shape=ir.Shape(["answers"]), type=ir.TensorType(ir.DataType.INT32))
    model.graph.inputs.append(index)
    PrefixCut(model, rest, index, shapes).cut()
    model.graph.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    # Nothing needs the images of each answer: their number is known from the indices.
    assert "images.of_answers" not in {value.name for node in model.graph for value in node.outputs}
    images = np.random.default_rng(0).standard_normal((3, 3, 4, 4)).astype(np.float32)
    frames = np.array([2, 0, 2, 1, 1], np.int32)
    (got,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"images": images, "index": frames})
    assert (got == bare.run(None, {"images": images})[0][frames]).all()


def test_a_value_that_is_not_made_of_rows_of_images_cannot_cross():
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    crossed (float[batch, 3, 4, 4] images) => (float[3, batch, 16] features)
    <int64[3] rows = {-1, 3, 16}>
    {
        view = Reshape (images, rows)
        site = Transpose <perm = [1, 0, 2]> (view)
        features = Relu (site)
    }
    """
    model = ir.from_onnx_text(text)
    shapes = shapes_of(model)
    values = {value.name: value for node in model.graph for value in node.outputs}
    rest = after_adapters(model.graph, {"site": values["site"]})
    index = ir.Value(name="index", shape=ir.Shape(["answers"]), type=ir.TensorType(ir.DataType.INT32))
    with pytest.raises(ArtifactError, match=r"site has shape \(3, 1, 16\) for one image"):
        PrefixCut(model, rest, index, shapes).cut()


def test_sites_lie_in_the_order_in_which_the_graph_computes_them(exported):
    for family in FAMILIES:
        _, graph = exported(family)
        model = load_graph(graph.path)
        names = [site.name for site in graph_info(model, graph.path).sites]
        produced = [value.name for node in model.graph for value in node.outputs if value.name in set(names)]
        assert produced == names
