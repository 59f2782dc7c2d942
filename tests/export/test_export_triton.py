"""A Triton model repository is what Triton documents: configuration, labels, and a graph with its weights beside it."""

import json

import numpy as np
import pytest
import tiny_package
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from mimi_edge.errors import ConfigError
from mimi_edge.export.graphs import GraphTask
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.triton import PREPROCESSING, config_text, export_triton

FIELD = descriptor_pb2.FieldDescriptorProto
KINDS = {
    "string": FIELD.TYPE_STRING,
    "int32": FIELD.TYPE_INT32,
    "int64": FIELD.TYPE_INT64,
    "DataType": FIELD.TYPE_ENUM,
}
MODEL_CONFIG = {
    "ModelInput": ["string name", "DataType data_type", "*int64 dims"],
    "ModelOutput": ["string name", "DataType data_type", "*int64 dims", "string label_filename"],
    "ModelDynamicBatching": [],
    "ModelParameter": ["string string_value"],
    "Parameter": ["string key", "ModelParameter value"],
    "ModelConfig": [
        "string name",
        "string backend",
        "int32 max_batch_size",
        "*ModelInput input",
        "*ModelOutput output",
        "ModelDynamicBatching dynamic_batching",
        "*Parameter parameters",
    ],
}
"""The entries of Triton's `ModelConfig` that we write; a map is a list of keys with values in protobuf's text form."""


def _model_config():
    """Protobuf's own class of these messages, so that its own parser reads what we write."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    kinds = file.enum_type.add(name="DataType")
    for number, name in enumerate(("TYPE_INVALID", "TYPE_FP32")):
        kinds.value.add(name=name, number=number)
    for name, entries in MODEL_CONFIG.items():
        message = file.message_type.add(name=name)
        for number, entry in enumerate(entries, start=1):
            kind, called = entry.lstrip("*").split()
            field = message.field.add(name=called, number=number, type=KINDS.get(kind, FIELD.TYPE_MESSAGE))
            field.label = FIELD.LABEL_REPEATED if entry.startswith("*") else FIELD.LABEL_OPTIONAL
            if kind not in KINDS or kind == "DataType":
                field.type_name = f".inference.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def _parsed(text):
    return text_format.Parse(text, _model_config()())


@pytest.fixture
def package(tmp_path):
    return tiny_package.make_package(tmp_path, {"one": (2, 0, 3), "other": (0, 4, 1)})


def test_repository_of_every_task(package, tmp_path):
    made = export_triton(package, tmp_path / "models")
    found = sorted(str(path.relative_to(made.folder)) for path in made.folder.rglob("*") if path.is_file())
    assert found == [
        f"{task}/{name}"
        for task in ("one", "other")
        for name in ("1/backbone.weights", "1/model.onnx", f"1/{task}.safetensors", "config.pbtxt", "labels.txt")
    ]
    assert made.models["one"].size_bytes == sum(path.stat().st_size for path in (made.folder / "one").rglob("*.*"))


def test_configuration_in_protobufs_text_form(package, tmp_path):
    made = export_triton(package, tmp_path / "models", ["one"], largest_batch=4)
    config = _parsed((made.folder / "one" / "config.pbtxt").read_text("ascii"))
    (taken,), (given_back,) = config.input, config.output
    size = tiny_package.SIZE
    assert (config.name, config.backend, config.max_batch_size) == ("one", "onnxruntime", 4)
    assert (taken.name, taken.data_type, list(taken.dims)) == ("images", 1, [3, size, size])
    assert (given_back.name, given_back.data_type, list(given_back.dims)) == ("logits", 1, [3])
    assert config.HasField("dynamic_batching")
    labels = (made.folder / "one" / given_back.label_filename).read_text("utf-8")
    assert labels.split("\n") == ["one", "two", "three", ""]
    (parameter,) = config.parameters
    assert parameter.key == PREPROCESSING
    assert json.loads(parameter.value.string_value)["resize"] == size


def test_configuration_says_what_the_graph_says(package, tmp_path):
    made = export_triton(package, tmp_path / "models", ["other"])
    config = _parsed((made.folder / "other" / "config.pbtxt").read_text("ascii"))
    model = open_graph(made.folder / "other" / "1" / "model.onnx")
    (taken,), (given_back,) = model.session.get_inputs(), model.session.get_outputs()
    assert (taken.name, taken.shape[1:]) == (config.input[0].name, list(config.input[0].dims))
    assert (given_back.name, given_back.shape[1:]) == (config.output[0].name, list(config.output[0].dims))
    images = np.random.default_rng(0).standard_normal((3, *config.input[0].dims), np.float32)
    assert np.array_equal(model.run(images), open_graph(package.task("other").graph).run(images))


@pytest.mark.parametrize("name", ['say "ah"', "back\\slash", "Äpfel und Öl", "snow ☃", "tab\there"])
def test_names_survive_the_text_form(package, name):
    info = open_graph(package.task("one").graph).info
    text = config_text(info, GraphTask(name, ("a", "b"), {}, "fp16", "0" * 64), 8)
    assert _parsed(text).name == name


def test_a_class_of_two_lines_has_no_label(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_package, "CLASSES", ("one", "two\nlines", "three"))
    package = tiny_package.make_package(tmp_path, {"one": (2, 0, 3)})
    with pytest.raises(ConfigError, match=r"'two\\nlines' of one is none. Rename"):
        export_triton(package, tmp_path / "models")
    assert not list(tmp_path.glob("*models*"))


def test_what_cannot_be_made(package, tmp_path):
    with pytest.raises(ConfigError, match="at least one image"):
        export_triton(package, tmp_path / "models", largest_batch=0)
    with pytest.raises(ConfigError, match="no task 'none'"):
        export_triton(package, tmp_path / "models", ["none"])
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").touch()
    with pytest.raises(ConfigError, match="exists already"):
        export_triton(package, tmp_path / "models")
