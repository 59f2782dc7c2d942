"""A one-file export answers what the task's own graph answers, from pixels, with nothing beside it."""

import json

import numpy as np
import onnx
import pytest
import tiny_package
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from predicting import predict

from mimi_edge.errors import ArtifactError, ConfigError, ExportMismatchError
from mimi_edge.export import one_file
from mimi_edge.export.answers import softmax
from mimi_edge.export.graphs import load_graph, read_graph_info
from mimi_edge.export.one_file import PIXELS, PROBABILITIES, embed, open_embedded, pixels_of
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.images.preprocessing import Preprocessing, normalise
from mimi_edge.tasks.files import read_task

SIZE = tiny_package.SIZE


@pytest.fixture
def package(tmp_path):
    return tiny_package.make_package(tmp_path, {"one": (2, 0, 3)})


@pytest.fixture
def alone(package, tmp_path):
    return embed(package.task("one").graph, tmp_path / "alone" / "one.onnx")


def _pixels(count):
    return np.random.default_rng(3).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_answers_of_the_tasks_own_graph_from_pixels(package, alone, batch):
    own = open_graph(package.task("one").graph)
    expected = softmax(own.run(normalise(_pixels(batch), own.info.preprocessing)))
    got = open_embedded(alone.path).probabilities(_pixels(batch))
    assert np.abs(got - expected).max() < 1e-6
    assert np.allclose(got.sum(axis=1), 1)


def test_file_stands_alone_and_reads_without_us(alone):
    onnxruntime = pytest.importorskip("onnxruntime")
    content = alone.path.read_bytes()
    assert [path.name for path in alone.path.parent.iterdir()] == ["one.onnx"]
    assert len(content) == alone.size_bytes
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (taken,), (given_back,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape) == (PIXELS, "tensor(uint8)", ["batch", SIZE, SIZE, 3])
    assert (given_back.name, given_back.shape) == (PROBABILITIES, ["batch", 3])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == ["one", "two", "three"]
    assert "shorter side to 4 pixels (bilinear" in session.get_modelmeta().description


def test_written_for_old_runtimes(alone):
    proto = onnx.load(alone.path)
    assert (proto.ir_version, proto.opset_import[0].version) == (9, 20)
    assert not proto.graph.value_info
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    onnx.checker.check_model(proto, full_check=True)


def test_weights_of_the_task_stay_as_small_as_they_were(package, alone):
    stored = read_task(package.task("one").task_file).tensors
    held = {tensor.name: tensor for tensor in onnx.load(alone.path).graph.initializer}
    assert all(len(held[name].raw_data) == tensor.nbytes for name, tensor in stored.items())


def test_same_package_gives_the_same_bytes(package, alone, tmp_path):
    again = embed(package.task("one").graph, tmp_path / "again.onnx")
    assert again.path.read_bytes() == alone.path.read_bytes()


def test_predict_takes_it(package, alone, tmp_path):
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (9, 7, 3), np.uint8)).save(picture)
    (got,), (expected,) = predict(alone.path, [picture]), predict(package.folder, [picture])
    assert (got.task, got.label) == (expected.task, expected.label)
    assert got.probability == pytest.approx(expected.probability, abs=1e-6)


@given(
    arrays.arrays(np.uint8, (2, 3, 3, 3)),
    st.tuples(*[st.floats(0, 1)] * 3),
    st.tuples(*[st.floats(0.05, 2)] * 3),
)
def test_pixels_come_back_from_normalised_images(pixels, mean, std):
    given_ = Preprocessing(3, 3, "bilinear", mean, std)
    assert np.array_equal(pixels_of(normalise(pixels, given_), given_), pixels)


def test_more_than_one_file_can_hold_is_refused_before_anything_is_read(package, tmp_path, monkeypatch):
    monkeypatch.setattr(one_file, "LARGEST_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"one ONNX file ends at.*protobuf.*Use the package"):
        embed(package.task("one").graph, tmp_path / "large.onnx")
    assert not (tmp_path / "large.onnx").exists()


def test_what_answers_something_else_is_not_published(package, tmp_path, monkeypatch):
    monkeypatch.setattr(one_file, "_channels", lambda values: np.full((1, 3, 1, 1), values[0] + 0.3, np.float32))
    with pytest.raises(ExportMismatchError, match="one-file export"):
        embed(package.task("one").graph, tmp_path / "wrong.onnx")
    assert not list(tmp_path.glob("*wrong*"))


def test_place_that_holds_something_else(package, alone, tmp_path):
    with pytest.raises(ConfigError, match="is a package"):
        embed(package.task("one").graph, package.folder / "another.onnx")
    (tmp_path / "notes.onnx").write_text("mine")
    with pytest.raises(ConfigError, match="no one-file export"):
        embed(package.task("one").graph, tmp_path / "notes.onnx")
    embed(package.task("one").graph, alone.path)


def test_other_commands_say_what_it_is(alone):
    with pytest.raises(ArtifactError, match=r"is a one-file export.*Give the package"):
        read_graph_info(alone.path)


def test_bare_backbone_has_nothing_to_answer(package, tmp_path):
    with pytest.raises(ArtifactError, match="bare backbone"):
        embed(package.backbone_graph, tmp_path / "backbone.onnx")


def test_one_that_points_elsewhere_is_refused(package, tmp_path):
    model = load_graph(package.task("one").graph)
    proto = onnx.load(embed(package.task("one").graph, tmp_path / "a.onnx").path)
    pointing = onnx.load(package.task("one").graph, load_external_data=False)
    assert model.graph.initializers
    proto.graph.initializer.append(next(each for each in pointing.graph.initializer if each.external_data))
    (tmp_path / "b.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ArtifactError, match="takes weights from other files"):
        open_embedded(tmp_path / "b.onnx")


def test_description_that_is_none_of_ours(alone, tmp_path):
    proto = onnx.load(alone.path)
    for entry in proto.metadata_props:
        entry.value = "[" * 5000
    (tmp_path / "deep.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ArtifactError, match="one-file export's description"):
        open_embedded(tmp_path / "deep.onnx")
