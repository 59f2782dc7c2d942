"""Task files: what comes back is what was written, and nothing else is taken for one."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from method_samples import class_names, cost_models, header_of, mimi_costs, pruned_task, sample_task
from safetensors import safe_open
from safetensors.numpy import load, save

from mimi_edge.errors import ArtifactError
from mimi_edge.tasks.content import CONTENT_KEY
from mimi_edge.tasks.descriptions import settings_of
from mimi_edge.tasks.files import (
    FIRST_SCHEMA,
    METADATA_KEY,
    SCHEMA,
    open_task,
    read_task,
    task_bytes,
    write_task,
)
from mimi_edge.tasks.sizes import size_bytes
from mimi_edge.tasks.stores import Store
from mimi_edge.tasks.task import MethodChoice, Task, bottleneck_shapes, decode_adapters, decode_head

Edit = Callable[[dict[str, Any]], object]
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def same(one: Task, other: Task) -> bool:
    return one.header == other.header and task_bytes(one) == task_bytes(other)


def rejected(path: Path, content: bytes, match: str = "Copy|copy|train|Upgrade") -> str:
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=match) as refused:
        read_task(path)
    assert str(path) in str(refused.value)
    assert refused.value.exit_code == 4
    return str(refused.value)


def with_tensors(task: Task, edit: Edit) -> bytes:
    tensors = dict(task.tensors)
    edit(tensors)
    with_metadata = load(task_bytes(task))
    assert with_metadata.keys() == task.tensors.keys()
    return save({name: np.ascontiguousarray(value) for name, value in tensors.items()}, metadata_of(task))


def metadata_of(task: Task) -> dict[str, str]:
    content = task_bytes(task)
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]


def with_description(task: Task, edit: Edit) -> bytes:
    document = json.loads(metadata_of(task)[METADATA_KEY])
    edit(document)
    return with_description_text(task, json.dumps(document))


def with_description_text(task: Task, text: str) -> bytes:
    return save({name: np.ascontiguousarray(value) for name, value in task.tensors.items()}, {METADATA_KEY: text})


@pytest.mark.parametrize("store", Store)
def test_what_is_read_is_what_was_written(tmp_path: Path, store: Store) -> None:
    task, path = sample_task(store), tmp_path / "pets.safetensors"
    assert write_task(task, path) == path.stat().st_size
    back = read_task(path)
    assert back.header == task.header
    assert back.tensors.keys() == task.tensors.keys()
    for name, values in task.tensors.items():
        assert back.tensors[name].dtype == values.dtype
        assert np.array_equal(back.tensors[name], values)
    assert task_bytes(back) == path.read_bytes()
    assert (back.sites, back.neurons) == (("blocks.0.attn", "blocks.0.mlp"), {"blocks.0.attn": 3, "blocks.0.mlp": 2})


@one_folder
@given(model=cost_models(), data=st.data())
def test_any_task_comes_back(tmp_path: Path, model: Any, data: st.DataObject) -> None:
    neurons = {site.name: data.draw(st.integers(0, 4)) for site in model.network.sites}
    accuracy = data.draw(st.integers(0, 10**6)) / 10**6
    task = pruned_task(model, neurons, accuracy)
    path = tmp_path / "task.safetensors"
    write_task(task, path)
    assert same(read_task(path), task)
    assert read_task(path).header.accuracy["test"].accuracy == accuracy


def test_the_plain_safetensors_package_reads_it(tmp_path: Path) -> None:
    task = sample_task()
    write_task(task, tmp_path / "task.safetensors")
    with safe_open(tmp_path / "task.safetensors", "np") as opened:
        assert set(opened.keys()) == set(task.tensors)
        document = json.loads(opened.metadata()[METADATA_KEY])
    assert document["classes"] == ["cat", "dog", "eel"]
    assert document["schema"] == FIRST_SCHEMA
    assert document["sites"] == {"blocks.0.attn": [4, 3], "blocks.0.mlp": [6, 2]}


def test_a_site_without_neurons_leaves_no_tensor() -> None:
    assert not [name for name in sample_task().tensors if "blocks.1" in name]


def test_the_same_task_gives_the_same_bytes_in_two_processes() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import hashlib\nfrom method_samples import sample_task\nfrom mimi_edge.tasks.files import task_bytes\n"
        "from mimi_edge.tasks.stores import Store\n"
        "for store in Store: print(hashlib.sha256(task_bytes(sample_task(store))).hexdigest())"
    )
    expected = [hashlib.sha256(task_bytes(sample_task(store))).hexdigest() for store in Store]
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        answer = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        )
        assert answer.stdout.split() == expected


@pytest.mark.parametrize("store", [store for store in Store if not store.low_bits])
def test_locations_point_at_the_weights(tmp_path: Path, store: Store) -> None:
    task, path = sample_task(store), tmp_path / "task.safetensors"
    write_task(task, path)
    content, spelled = path.read_bytes(), {"F32": np.float32, "F16": np.float16, "I8": np.int8}
    locations = open_task(path).locations
    assert locations.keys() == task.tensors.keys()
    for name, place in locations.items():
        values = np.frombuffer(content[place.offset : place.offset + place.length], spelled[place.dtype])
        assert np.array_equal(values.reshape(place.shape), task.tensors[name])


def test_int8_answers_with_its_scales() -> None:
    exact, rough = sample_task(Store.FP32), sample_task(Store.INT8)
    for site, adapter in decode_adapters(rough).items():
        np.testing.assert_allclose(adapter.down, decode_adapters(exact)[site].down, atol=0.02)
        np.testing.assert_allclose(adapter.up, decode_adapters(exact)[site].up, atol=0.02)
    np.testing.assert_allclose(decode_head(rough).weight, decode_head(exact).weight, atol=0.02)


def swapped(name: str, change: Callable[[Any], Any]) -> Edit:
    return lambda tensors: tensors.update({name: change(tensors[name])})


def poisoned(values: Any) -> Any:
    copy = values.copy()
    copy.reshape(-1)[0] = np.nan
    return copy


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda tensors: tensors.pop("blocks.0.mlp.up"), "tensor blocks.0.mlp.up is missing"),
        (lambda tensors: tensors.pop("head.bias"), "tensor head.bias is missing"),
        (lambda tensors: tensors.update(extra=np.zeros(2, np.float32)), "tensor extra is unknown"),
        (swapped("blocks.0.attn.down", lambda values: values.T), "expected shape [4, 3], got [3, 4]"),
        (swapped("blocks.0.mlp.down", lambda values: values[:, :1]), "expected shape [6, 2], got [6, 1]"),
        (swapped("head.weight", lambda values: values[:2]), "expected shape [3, 5], got [2, 5]"),
        (swapped("head.bias", lambda values: values[:, None]), "expected shape [3], got [3, 1]"),
        (swapped("head.weight", lambda values: values.astype(np.float64)), "expected float32, got float64"),
        (swapped("head.weight", lambda values: values.astype(np.int32)), "expected float32, got int32"),
        (swapped("blocks.0.mlp.up", poisoned), "tensor blocks.0.mlp.up: holds values that are infinite"),
    ],
)
def test_tensors_that_contradict_the_description_are_named(tmp_path: Path, edit: Edit, fault: str) -> None:
    rejected(tmp_path / "task.safetensors", with_tensors(sample_task(), edit), re.escape(fault))


@pytest.mark.parametrize("name", ["blocks.0.mlp.down.scale", "head.weight.scale"])
def test_int8_without_scales_is_refused(tmp_path: Path, name: str) -> None:
    content = with_tensors(sample_task(Store.INT8), lambda tensors: tensors.pop(name))
    rejected(tmp_path / "task.safetensors", content, re.escape(f"tensor {name} is missing"))


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    def edit(tensors: dict[str, Any]) -> None:
        tensors["extra"] = tensors.pop("blocks.0.mlp.up")

    message = rejected(tmp_path / "task.safetensors", with_tensors(sample_task(), edit))
    assert "blocks.0.mlp.up is missing" in message
    assert "extra is unknown" in message


def test_a_newer_format_is_refused_and_the_upgrade_named(tmp_path: Path) -> None:
    content = with_description(sample_task(), lambda document: document.update(schema=SCHEMA + 1, news=[1]))
    rejected(tmp_path / "task.safetensors", content, rf"schema {SCHEMA + 1}.*Upgrade: ")


@pytest.mark.parametrize(
    "entry",
    [
        {"schema": "one"},
        {"schema": None},
        {"schema": math.inf},
        {"name": 7},
        {"name": ["a"]},
        {"backbone": {"name": "tiny"}},
        {"backbone": []},
        {"backbone": {"name": 1, "sha256": 2, "features": 5}},
        {"backbone": {"name": "tiny", "sha256": "5", "features": "5"}},
        {"classes": 3},
        {"classes": "abc"},
        {"classes": ["a", "b", 3]},
        {"classes": [["a"], ["b"], ["c"]]},
        {"classes": ["a", "b", "b"]},
        {"classes": ["a", "b", "\ud800"]},
        {"classes": ["a", "b"]},
        {"sites": []},
        {"sites": {"blocks.0.attn": 4}},
        {"sites": {"blocks.0.attn": [4, 3], "blocks.0.mlp": [6, math.inf]}},
        {"sites": {"blocks.0.attn": [4, 3], "blocks.0.mlp": [6, -2]}},
        {"sites": {"blocks.0.attn": [4, 3]}},
        {"store": "fp8"},
        {"store": []},
        {"activation": "gelv"},
        {"activation": ["gelu"]},
        {"accuracy": {"val": [0.5]}},
        {"accuracy": {"val": [math.nan, 30]}},
        {"accuracy": {"val": ["1.5", 30]}},
        {"accuracy": {"val": ["0.5", math.inf]}},
        {"accuracy": {"val": ["0.5", -1]}},
        {"accuracy": 0.5},
        {"preprocessing": {}},
        {"preprocessing": None},
        {"training_sha256": 5},
        {"versions": [1]},
    ],
)
def test_descriptions_that_make_no_sense_are_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    rejected(tmp_path / "task.safetensors", with_description(sample_task(), lambda document: document.update(entry)))


@pytest.mark.parametrize("key", sorted(json.loads(metadata_of(sample_task())[METADATA_KEY]).keys() - {CONTENT_KEY}))
def test_descriptions_that_lack_an_entry_are_refused(tmp_path: Path, key: str) -> None:
    rejected(tmp_path / "task.safetensors", with_description(sample_task(), lambda document: document.pop(key)))


@pytest.mark.parametrize("text", ["", "null", "[]", "3", "{", "[" * 200_000, '"\\ud800"', "{}"])
def test_descriptions_that_are_no_objects_are_refused(tmp_path: Path, text: str) -> None:
    rejected(tmp_path / "task.safetensors", with_description_text(sample_task(), text))


def test_other_safetensors_files_are_refused(tmp_path: Path) -> None:
    tensors = {"head.weight": np.zeros((2, 2), np.float32)}
    rejected(tmp_path / "plain.safetensors", save(tensors))
    rejected(tmp_path / "other.safetensors", save(tensors, {"format": "pt"}))


def test_pickled_files_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    rejected(tmp_path / "task.safetensors", pickle.dumps(Bomb()))
    rejected(tmp_path / "task.pt", b"PK\x03\x04" + pickle.dumps(Bomb()))
    assert not (tmp_path / "exploded").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nothing\.safetensors"):
        read_task(tmp_path / "nothing.safetensors")
    with pytest.raises(ArtifactError, match="Cannot read"):
        read_task(tmp_path)


@one_folder
@given(length=st.integers(0, len(task_bytes(sample_task())) - 1))
@example(length=0)
@example(length=7)
@example(length=8)
def test_a_file_that_ends_early_is_refused(tmp_path: Path, length: int) -> None:
    rejected(tmp_path / "task.safetensors", task_bytes(sample_task())[:length])


@one_folder
@given(tail=st.binary(min_size=1, max_size=9))
def test_a_file_that_goes_on_is_refused(tmp_path: Path, tail: bytes) -> None:
    rejected(tmp_path / "task.safetensors", task_bytes(sample_task()) + tail)


@settings(one_folder, max_examples=300)
@given(place=st.integers(0, 8 * len(task_bytes(sample_task(Store.INT8))) - 1))
def test_a_flipped_bit_is_refused(tmp_path: Path, place: int) -> None:
    rejected(tmp_path / "task.safetensors", flipped(task_bytes(sample_task(Store.INT8)), place))


def test_a_flipped_bit_of_the_hash_or_of_its_name_is_refused(tmp_path: Path) -> None:
    content = task_bytes(sample_task())
    start = content.index(CONTENT_KEY.encode()) - 2
    for place in range(8 * start, 8 * (start + len(CONTENT_KEY) + 72)):
        rejected(tmp_path / "task.safetensors", flipped(content, place))


def flipped(content: bytes, place: int) -> bytes:
    altered = bytearray(content)
    altered[place // 8] ^= 1 << place % 8
    return bytes(altered)


def test_a_file_without_a_hash_is_read_and_says_that_it_has_none(tmp_path: Path) -> None:
    task, old, new = sample_task(), tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    old.write_bytes(with_description(task, lambda document: document.pop(CONTENT_KEY)))
    assert same(read_task(old), task)
    assert open_task(old).stated_sha256 is None
    write_task(task, new)
    stated = open_task(new).stated_sha256
    assert stated == hashlib.sha256(new.read_bytes().replace(stated.encode(), b"0" * 64)).hexdigest()


def test_a_hash_that_was_made_to_fit_another_place_is_refused(tmp_path: Path) -> None:
    # A class called like the entry, and the same digits as the hash of the training.
    stated = json.loads(metadata_of(sample_task())[METADATA_KEY])[CONTENT_KEY]
    for entry in ({"training_sha256": stated}, {"versions": {CONTENT_KEY: stated}}, {CONTENT_KEY: None}):
        content = with_description(sample_task(), lambda document, entry=entry: document.update(entry))
        rejected(tmp_path / "task.safetensors", content, "altered")


def test_a_file_is_as_large_as_was_said_before_it_had_a_hash() -> None:
    task = sample_task()
    assert size_bytes(task.header, bottleneck_shapes(task.widths, task.neurons)) == len(task_bytes(task))


@one_folder
@given(content=st.binary(max_size=200))
def test_any_bytes_at_all_are_refused(tmp_path: Path, content: bytes) -> None:
    rejected(tmp_path / "task.safetensors", content)


@one_folder
@given(names=class_names())
def test_class_names_come_back_letter_by_letter(tmp_path: Path, names: list[str]) -> None:
    header = header_of(names)
    task = pruned_task(mimi_costs(header, [], 1), {})
    write_task(task, tmp_path / "task.safetensors")
    assert read_task(tmp_path / "task.safetensors").header.classes == tuple(names)


def test_a_task_of_a_method_that_nobody_here_knows_says_what_to_do() -> None:
    task = sample_task()
    of_another = replace(task, header=replace(task.header, method=MethodChoice("norms", {})))
    with pytest.raises(ArtifactError, match=r"of the method .norms., which is not known here.*add_method"):
        settings_of(of_another.header)
