"""Graphs are written for the oldest reader that can run them, and say no shape that is wrong at some batch."""

import onnx
import onnx_ir as ir
import pytest
import tiny_package
from onnx import parser

from mimi_edge.choices import Strategy
from mimi_edge.errors import ArtifactError
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.engines.building.drafts import drafted
from mimi_edge.export.graph_files import graph_proto, save_graph, save_with_weights
from mimi_edge.export.graphs import load_graph, read_graph_info
from mimi_edge.export.merge import merge
from mimi_edge.export.onnx_runtime import open_session
from mimi_edge.export.open_packages import read_package
from mimi_edge.export.ort_adapters import export_ort_adapters
from mimi_edge.export.shared.layout import layout_of
from mimi_edge.export.shared.overridable import overridable_model
from mimi_edge.tasks.files import read_task, write_task
from mimi_edge.tasks.stores import Store

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
agraph (float[batch, 4] x) => (float[batch, 4] y) {
    %s
}
"""
GELU_IR, GELU_OPSET = 9, 20
"""What a graph with `Gelu` needs; ONNX Runtime 1.17 reads just that."""


def _model(*nodes: str) -> ir.Model:
    return ir.from_proto(parser.parse_model(TEXT % "\n    ".join(nodes)))


def _versions(proto: onnx.ModelProto) -> tuple[int, int]:
    return proto.ir_version, proto.opset_import[0].version


@pytest.fixture
def package(tmp_path):
    return tiny_package.make_package(tmp_path, {"one": (2, 0, 3), "other": (0, 4, 1)})


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (("y = Gelu(x)",), (9, 20)),
        (("h = Gelu(x)", "y = Relu(h)"), (9, 20)),
        (("h = LayerNormalization(x, x)", "y = Relu(h)"), (8, 17)),
        (("y = Relu(x)",), (7, 14)),
    ],
)
def test_lowest_versions_that_the_nodes_need(nodes, expected):
    assert _versions(graph_proto(_model(*nodes))) == expected


def test_nodes_that_the_stated_operator_set_does_not_know_leave_it_alone():
    model = ir.from_proto(parser.parse_model((TEXT % "y = Gelu(x)").replace("20", "17")))
    assert _versions(graph_proto(model)) == (8, 17)


def test_remarks_on_a_node_need_the_ir_version_that_brought_them():
    model = _model("y = Relu(x)")
    model.graph[0].metadata_props["a"] = "remark"
    assert graph_proto(model).ir_version == 10


def test_a_graph_with_shapes_of_what_it_computes_is_written_without_them():
    model = _model("h = Relu(x)", "y = Relu(h)")
    model.graph[0].outputs[0].shape = ir.Shape([2, 4])
    model.graph[0].outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    assert not graph_proto(model).graph.value_info


def test_inner_graphs_count_too():
    branches = "y = If <then_branch = g () => (t) { t = Gelu(x) }, else_branch = g () => (e) { e = Relu(x) }> (c)"
    text = (TEXT % branches).replace("(float[batch, 4] x)", "(float[batch, 4] x, bool c)")
    assert _versions(graph_proto(ir.from_proto(parser.parse_model(text)))) == (9, 20)


def test_every_kind_of_graph_that_lies_on_a_disk(package, tmp_path):
    adapters = export_ort_adapters(read_package(package.folder), tmp_path / "adapters").graph
    drafts = [drafted(package, ["one"], strategy) for strategy in (Strategy.PER_TASK, Strategy.SHARED)]
    drafts.append(drafted(package, ["one", "other"], Strategy.SHARED, mixed=True))
    kinds = [*(task.graph for task in package.tasks.values()), adapters]
    for path in kinds:
        _check_written(path)
    for one in drafts:
        with engine_graph(one.model, package.folder) as path:
            _check_written(path)


def _check_written(path):
    proto = onnx.load(path, load_external_data=False)
    assert _versions(proto) == (GELU_IR, GELU_OPSET)
    assert not proto.graph.value_info
    onnx.checker.check_model(str(path), full_check=True)
    onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)


def test_bare_backbone(package, tmp_path):
    model = load_graph(package.backbone_graph)
    (tmp_path / "again").mkdir()
    save_with_weights(model, tmp_path / "again" / "backbone.onnx", "backbone.weights")
    proto = onnx.load(tmp_path / "again" / "backbone.onnx", load_external_data=False)
    # This one has no Gelu: its newest node is Reshape.
    assert _versions(proto) == (9, 19)
    assert not proto.graph.value_info
    onnx.checker.check_model(str(tmp_path / "again" / "backbone.onnx"), full_check=True)
    open_session(tmp_path / "again" / "backbone.onnx")


def test_gelu_goes_into_a_backbone_that_states_an_older_operator_set(package, tmp_path):
    folder = tmp_path / "older"
    folder.mkdir()
    save_with_weights(load_graph(package.backbone_graph), folder / "backbone.onnx", "backbone.weights")
    task_file = folder / "one.safetensors"
    write_task(read_task(package.task("one").task_file), task_file)
    merged = merge(folder / "backbone.onnx", task_file, folder / "one.onnx").path
    _check_written(merged)
    layout = layout_of([read_task(task_file)])
    adapters = overridable_model(folder / "backbone.onnx", layout, Store.FP16, padded=False)
    assert _versions(graph_proto(adapters)) == (GELU_IR, GELU_OPSET)


def test_same_graph_gives_the_same_bytes(package, tmp_path):
    graph = package.task("one").graph
    for name in ("a.onnx", "b.onnx"):
        save_graph(load_graph(graph), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes() == graph.read_bytes()


def test_a_sanitised_graph_is_refused_with_the_reason(package):
    graph = package.task("one").graph
    proto = onnx.load(graph, load_external_data=False)
    del proto.metadata_props[:]
    graph.write_bytes(proto.SerializeToString())
    with pytest.raises(ArtifactError, match=r"no metadata property 'mimi_edge'.*sanitised.*dropped its metadata"):
        read_graph_info(graph)
