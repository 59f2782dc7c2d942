"""Sidecars: what they hold comes back, and nonsense is refused with every fault named."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from engine_samples import TENSORS, sidecar
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.documents import document_bytes
from mimi_edge.errors import ArtifactError, ConfigError, MimiEdgeError
from mimi_edge.export.engines.building.requests import BatchRange
from mimi_edge.export.engines.shelf.sidecars import (
    KIND,
    Sidecar,
    parse_sidecar,
    sidecar_bytes,
    sidecar_name,
    unproved_note,
)
from mimi_edge.export.engines.tensorrt.tensors import DTYPES, EngineTensor

NAMES = st.text(min_size=1, max_size=20)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
SHAPES = st.lists(st.integers(1, 64) | st.just(-1), max_size=4).map(tuple)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def sidecars(draw):
    names = draw(st.lists(NAMES, min_size=2, max_size=5, unique=True))
    modes = ["input", "output", *draw(st.lists(st.sampled_from(["input", "output"]), min_size=3, max_size=3))]
    dtypes = st.sampled_from(sorted(DTYPES))
    return sidecar(
        backend=draw(st.sampled_from([Backend.TRT, Backend.TRT_RTX])),
        precision=draw(st.sampled_from(Precision)),
        strategy=draw(st.sampled_from(Strategy)),
        mixed=draw(st.booleans()),
        gpu=draw(st.none() | NAMES),
        cuda=draw(st.none() | NAMES),
        compute_capabilities=draw(st.sampled_from([(), ("8.7",), ("8.6", "12.0")])),
        ranges=draw(
            st.dictionaries(
                NAMES,
                st.lists(st.integers(1, 99), min_size=3, max_size=3).map(lambda three: BatchRange(*sorted(three))),
            )
        ),
        tensors=tuple(
            EngineTensor(name, mode, draw(dtypes), draw(SHAPES)) for name, mode in zip(names, modes, strict=False)
        ),
        tasks=draw(st.dictionaries(NAMES, DIGESTS, min_size=1)),
        layout=draw(st.none() | st.dictionaries(NAMES, JSON, max_size=3)),
        kept_fp32=draw(st.dictionaries(NAMES, st.text(max_size=9))),
        passes=tuple(draw(st.lists(NAMES))),
        prefix_blocks=draw(st.integers(0, 99)),
        build_seconds=draw(st.floats(0, 1e6)),
        check=draw(st.dictionaries(NAMES, JSON, max_size=3) | NAMES),
    )


@given(sidecars())
def test_what_is_written_is_read(made):
    content = sidecar_bytes(made)
    assert parse_sidecar(content, "x.json") == made
    assert sidecar_bytes(parse_sidecar(content, "x.json")) == content


def document(**changes):
    return json.loads(sidecar_bytes(sidecar())) | changes


def refused(changed):
    with pytest.raises(ArtifactError) as caught:
        parse_sidecar(json.dumps(changed).encode(), "x.json")
    return str(caught.value)


@given(st.sampled_from([one.name for one in fields(Sidecar)]), JSON)
def test_any_value_in_any_field_is_taken_or_refused_as_ours(name, value):
    content = json.dumps(document(**{name: value})).encode()
    try:
        parse_sidecar(content, "x.json")
    except MimiEdgeError as error:
        assert isinstance(error, ArtifactError)  # noqa: PT017  whether it raises depends on the value


@given(JSON)
def test_any_tensor_is_taken_or_refused_as_ours(tensor):
    text = refused(document(tensors=[tensor, document()["tensors"][1]]))
    assert "x.json cannot be read as a sidecar of an engine" in text


@given(st.binary(max_size=50))
def test_any_bytes_are_refused_as_ours(content):
    with pytest.raises(ArtifactError, match=r"x\.json"):
        parse_sidecar(content, "x.json")


def test_deeply_nested_json_is_refused_as_ours():
    with pytest.raises(ArtifactError, match="cannot be read as a sidecar"):
        parse_sidecar(b"[" * 200_000, "x.json")


def test_every_fault_is_named_at_once():
    changed = document(sha256="abc", size_bytes=0, mixed="yes", precision="fp8", novel=1)
    del changed["tasks"]
    text = refused(changed)
    for fault in (
        "sha256: expected 64 hexadecimal digits, got 'abc'",
        "size_bytes: expected 1 to 64000000000, got 0",
        "mixed: expected true or false, got 'yes'",
        "precision: expected one of fp32, fp16, bf16, int8, got 'fp8'",
        "novel is not known",
        "tasks is missing",
        "Build the engine again",
    ):
        assert fault in text


@pytest.mark.parametrize(
    ("tensor", "fault"),
    [
        ({"shape": [2**31]}, "tensors[0].shape[0]: expected a size, or -1 where it varies, got 2147483648"),
        ({"shape": [0, 3]}, "has shape [0, 3], which no tensor of an engine has"),
        ({"shape": [-2]}, "tensors[0].shape[0]: expected a size, or -1 where it varies, got -2"),
        ({"shape": [1] * 9}, "which no tensor of an engine has"),
        ({"shape": [2**20, 2**20, 2]}, "which no tensor of an engine has"),
        ({"shape": [True]}, "tensors[0].shape[0]: expected a size"),
        ({"shape": [1.5]}, "tensors[0].shape[0]: expected a size"),
        ({"shape": "33"}, "tensors[0].shape: expected a list, got '33'"),
        ({"dtype": "float64"}, "tensors[0].dtype: expected one of float32, float16"),
        ({"dtype": ["float32"]}, "tensors[0].dtype: expected one of float32"),
        ({"mode": "both"}, "tensors[0].mode: expected input or output, got 'both'"),
        ({"name": ""}, "tensors[0].name: expected a text, got ''"),
        ({"name": "logits"}, "several tensors have the same name"),
        ({"novel": 1}, "tensors[0].novel is not known"),
    ],
)
def test_absurd_tensors_are_refused(tensor, fault):
    tables = document()["tensors"]
    assert fault in refused(document(tensors=[tables[0] | tensor, tables[1]]))


@pytest.mark.parametrize("engine", ["../x.engine", "/etc/passwd", "a/b.engine", ".."])
def test_an_engine_outside_the_folder_is_refused(engine):
    assert "engine is" in refused(document(engine=engine))


def test_a_newer_schema_asks_for_an_upgrade():
    assert "Upgrade: " in refused(document(schema=2, novel=1))


@pytest.mark.parametrize(("constant", "said"), [("NaN", "NaN"), ("Infinity", "Infinity"), ("1e999", "out of range")])
def test_what_is_no_json_number_is_refused(constant, said):
    content = sidecar_bytes(sidecar()).replace(b'"build_seconds": 0.0', f'"build_seconds": {constant}'.encode())
    with pytest.raises(ArtifactError, match=said):
        parse_sidecar(content, "x.json")


def test_nonsense_cannot_be_written_either():
    with pytest.raises(ConfigError, match="there is no task"):
        sidecar(tasks={})
    with pytest.raises(ConfigError, match="there is no output"):
        sidecar(tensors=TENSORS[:1])


def test_a_missing_or_huge_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="No such file"):
        parse_sidecar(document_bytes(tmp_path / "x.json", KIND), tmp_path / "x.json")
    with (tmp_path / "x.json").open("wb") as opened:
        opened.truncate(10**9)
    with pytest.raises(ArtifactError, match="1,000,000,000 bytes"):
        parse_sidecar(document_bytes(tmp_path / "x.json", KIND), tmp_path / "x.json")


def test_it_lies_beside_its_engine():
    assert sidecar_name("shared.fp16.engine") == "shared.fp16.json"


@pytest.mark.parametrize("why", ["nobody asked for it", "There is no NVIDIA driver here (docker run --gpus all)."])
def test_the_note_of_an_engine_that_is_not_proved_is_one_sentence(why):
    said = unproved_note("per-task.cats.fp16", why)
    assert said.endswith(f"trained: {why.removesuffix('.')}.")
