from __future__ import annotations

import onnx
import pytest
from export_samples import random_task, some_neurons, task_file

from mimi_edge.errors import ArtifactError
from mimi_edge.export.external_data import verify_graph
from mimi_edge.export.merge import merge
from mimi_edge.export.onnx_runtime import open_graph


@pytest.fixture
def graph(workplace):
    backbone, folder = workplace
    path = task_file(folder, random_task(backbone, some_neurons(backbone)))
    return merge(folder / "backbone.onnx", path, folder / "sample.onnx").path


def _altered(path, key, value, name="head.weight"):
    """Rewrites one reference of one initializer."""
    model = onnx.load(path, load_external_data=False)
    tensor = next(each for each in model.graph.initializer if each.name == name)
    next(entry for entry in tensor.external_data if entry.key == key).value = value
    path.write_bytes(model.SerializeToString())


def test_good_graph_tells_its_files(graph):
    assert verify_graph(graph).files == {"backbone.weights", "sample.safetensors"}


@pytest.mark.parametrize(
    "place", ["../secret", "/etc/passwd", "folder/../../secret", "..", "sub/file", "..\\secret", ""]
)
def test_references_that_leave_the_folder_are_refused(graph, place):
    (graph.parent.parent / "secret").write_bytes(b"\0" * 10000)
    _altered(graph, "location", place)
    for opener in (verify_graph, open_graph):
        with pytest.raises(ArtifactError):
            opener(graph)


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "99999999"), ("offset", "-4"), ("length", "4"), ("length", "99999999")]
)
def test_references_past_the_end_are_refused(graph, key, value):
    _altered(graph, key, value)
    with pytest.raises(ArtifactError):
        open_graph(graph)


@pytest.mark.parametrize("sizes", [(2**40, 2**20), (-1, 8), (2**62, 2)])
def test_absurd_shapes_of_weights_are_refused_before_a_runtime_sees_them(graph, sizes):
    model = onnx.load(graph, load_external_data=False)
    tensor = next(each for each in model.graph.initializer if each.name == "head.weight")
    del tensor.dims[:]
    tensor.dims.extend(sizes)
    graph.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=r"shapes|bytes|whole ONNX"):
        verify_graph(graph)


@pytest.mark.parametrize("sizes", [(3, 2**30, 2**30), (3, 32, 64), (32, 32)])
def test_images_of_absurd_shapes_are_refused(graph, sizes):
    model = onnx.load(graph, load_external_data=False)
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    del dimensions[1:]
    for size in sizes:
        dimensions.add().dim_value = size
    graph.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=r"images: \[B, "):
        verify_graph(graph)


def test_reference_hidden_in_a_constant_is_refused(graph):
    model = onnx.load(graph, load_external_data=False)
    tensor = onnx.TensorProto(name="t", data_type=1, dims=[2], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["unused"], value=tensor))
    graph.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="secret"):
        open_graph(graph)


@pytest.mark.parametrize("name", ["backbone.weights", "sample.safetensors"])
def test_missing_truncated_and_linked_files_are_refused(graph, name):
    path = graph.parent / name
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    with pytest.raises(ArtifactError):
        open_graph(graph)
    path.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        open_graph(graph)
    aside = graph.parent.parent / "aside"
    aside.write_bytes(content)
    path.symlink_to(aside)
    with pytest.raises(ArtifactError):
        open_graph(graph)


def test_another_task_file_of_the_same_layout_is_refused(graph, workplace):
    backbone, folder = workplace
    task_file(folder, random_task(backbone, some_neurons(backbone), seed=5))
    with pytest.raises(ArtifactError, match="not the task file"):
        open_graph(graph)
