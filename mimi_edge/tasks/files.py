"""Task files: written whole, sized exactly before they exist, and rejected when anything does not fit.

A task file is one safetensors file. Its metadata has a single entry, `mimi_edge`, a JSON text with sorted keys: the
safetensors writer puts several entries in an order of its own choosing, and the same task must give the same bytes. The
file states what its content hashes to (`mimi_edge.tasks.content`), and whoever reads it checks that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mimi_edge.choices import ACTIVATION_NAMES
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.files import write_whole
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.parts import upgrade_words
from mimi_edge.sites import Neurons
from mimi_edge.tasks.content import CONTENT_KEY, UNKNOWN, states_itself, with_hash
from mimi_edge.tasks.stores import SCALE, Array, Store
from mimi_edge.tasks.task import (
    DOWN,
    HEAD_BIAS,
    HEAD_WEIGHT,
    UP,
    AdapterWeights,
    BackboneIdentity,
    HeadWeights,
    SplitAccuracy,
    Task,
    TaskHeader,
    encode_weights,
)

SCHEMA = 1
METADATA_KEY = "mimi_edge"
LENGTH_PREFIX_BYTES = 8
LARGEST_HEADER_BYTES = 100_000_000
"""What the safetensors format itself allows."""
OUTLINED = {"F32": np.float32, "F16": np.float16, "I8": np.int8}
"""Types of numbers in a task file, in safetensors' spelling."""
SUFFIX = ".safetensors"
KNOWN_KEYS = frozenset(
    [
        "schema",
        "name",
        "backbone",
        "sites",
        "classes",
        "preprocessing",
        "activation",
        "store",
        "accuracy",
        "training_sha256",
        "versions",
    ]
)
"""Of the description of a file without a hash."""


@dataclass(frozen=True)
class TensorLocation:
    """Where a tensor lies in its file: dtype in safetensors' spelling (`F32`, `F16`, `I8`), byte offset and length."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def task_bytes(task: Task) -> bytes:
    """The content of a task's file."""
    return with_hash(_bytes_without_hash(task))


def write_task(task: Task, path: Path) -> int:
    """Writes a task file whole; returns its size in bytes."""
    content = task_bytes(task)
    write_whole(path, content)
    return len(content)


def size_bytes(header: TaskHeader, widths: Mapping[str, int], neurons: Neurons) -> int:
    """Exactly how large the file of such a task will be.

    Args:
        header: of the task; its accuracies may still be anything, they take the same room.
        widths: M of each site.
        neurons: N of each site.
    """
    return len(_bytes_without_hash(Task(header, _zeros(header, widths, neurons))))


def read_task(path: Path) -> Task:
    """Reads a task file, and checks the hash that it states.

    Raises:
        ArtifactError: it is not a task file, is damaged, altered, or is of a newer format; every fault is named.
    """
    try:
        content = path.read_bytes()
        tensors = load(content)
        document = json.loads(_header(content)["__metadata__"][METADATA_KEY])
    except OSError as error:
        raise ArtifactError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(
            f"{path} is not a whole task file ({error}). Copy it again from where it was made, or train it again."
        ) from error
    task = _fitting(path, document, tensors)
    _check_content(path, content, document)
    return task


def read_outline(path: Path) -> Task:
    """What a task file says about its task, without reading its weights: they are zeros that take no memory.

    Takes the same time for a large task as for a small one. The file's hash is not checked, its size is.

    Raises:
        ArtifactError: it is not a task file, is of another size than it says, or is of a newer format.
    """
    try:
        document = _description(path)
        places = tensor_locations(path)
        end = max((place.offset + place.length for place in places.values()), default=0)
        if end != path.stat().st_size:
            raise ValueError(f"its tensors end at {end}, the file at {path.stat().st_size}")
        tensors = {
            name: np.broadcast_to(np.zeros((), OUTLINED[place.dtype]), place.shape) for name, place in places.items()
        }
    except OSError as error:
        raise ArtifactError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError) as error:
        raise ArtifactError(
            f"{path} is not a whole task file ({error}). Copy it again from where it was made, or train it again."
        ) from error
    return _fitting(path, document, tensors)


def _fitting(path: Path, document: dict[str, Any], tensors: Mapping[str, Array]) -> Task:
    """A task of a description and tensors that go together.

    Raises:
        ArtifactError: they do not; every fault is named.
    """
    task = Task(_parsed_header(path, document), tensors)
    if faults := _faults(task, document):
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise ArtifactError(f"{path} does not fit together:\n{listed}\nTrain it again, or get an unaltered copy.")
    return task


def stated_sha256(path: Path) -> str | None:
    """What a task file that was read says its content hashes to; None for one of an earlier release.

    Raises:
        OSError: it cannot be read any more.
    """
    stated: str | None = _description(path).get(CONTENT_KEY)
    return stated


def tensor_locations(path: Path) -> dict[str, TensorLocation]:
    """Where each tensor of a safetensors file lies in it."""
    entries, start = _entries(path)
    return {
        name: TensorLocation(
            dtype=entry["dtype"],
            shape=tuple(entry["shape"]),
            offset=start + entry["data_offsets"][0],
            length=entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in entries.items()
        if name != "__metadata__"
    }


def _description(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_entries(path)[0]["__metadata__"][METADATA_KEY])
    return document


def _entries(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where in the file the tensors begin."""
    with path.open("rb") as opened:
        length = int.from_bytes(opened.read(LENGTH_PREFIX_BYTES), "little")
        if length > LARGEST_HEADER_BYTES:
            raise ValueError(f"its header is said to have {length:,} bytes")
        return json.loads(opened.read(length)), LENGTH_PREFIX_BYTES + length


def _bytes_without_hash(task: Task) -> bytes:
    tensors = {name: np.ascontiguousarray(values) for name, values in task.tensors.items()}
    return save(tensors, metadata={METADATA_KEY: _metadata(task)})


def _check_content(path: Path, content: bytes, document: dict[str, Any]) -> None:
    """Compares a file with the hash that it states, if it does.

    Raises:
        ArtifactError: it was altered.
    """
    if CONTENT_KEY in document:
        whole = states_itself(content, str(document[CONTENT_KEY]))
    else:
        # Whoever writes entries that are not known here writes a hash, too: its own key was damaged.
        whole = document.keys() <= KNOWN_KEYS
    if not whole:
        raise ArtifactError(
            f"{path} was altered since it was written: its content is not what its own hash says. "
            "Copy it again from where it was made, or train it again."
        )


def _header(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:LENGTH_PREFIX_BYTES], "little")
    header: dict[str, Any] = json.loads(content[LENGTH_PREFIX_BYTES : LENGTH_PREFIX_BYTES + length])
    return header


def _metadata(task: Task) -> str:
    header = task.header
    document = {
        "schema": SCHEMA,
        "name": header.name,
        "backbone": asdict(header.backbone),
        "sites": {site: [task.widths[site], neurons] for site, neurons in task.neurons.items()},
        "classes": header.classes,
        "preprocessing": asdict(header.preprocessing),
        "activation": header.activation,
        "store": header.store.value,
        # Six decimals always: the file's size must be known before the accuracy is.
        "accuracy": {split: [f"{value.accuracy:.6f}", value.images] for split, value in header.accuracy.items()},
        "training_sha256": header.training_sha256,
        "versions": dict(header.versions),
        CONTENT_KEY: UNKNOWN,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _parsed_header(path: Path, document: dict[str, Any]) -> TaskHeader:
    try:
        schema = int(document["schema"])
        if schema > SCHEMA:
            raise ArtifactError(
                f"{path} has format {schema}; this mimi-edge reads up to format {SCHEMA}. {upgrade_words()}"
            )
        preprocessing = document["preprocessing"]
        return TaskHeader(
            name=document["name"],
            backbone=BackboneIdentity(**document["backbone"]),
            classes=tuple(document["classes"]),
            preprocessing=Preprocessing(
                **preprocessing | {"mean": tuple(preprocessing["mean"]), "std": tuple(preprocessing["std"])}
            ),
            activation=document["activation"],
            store=Store(document["store"]),
            accuracy={
                split: SplitAccuracy(float(accuracy), int(images))
                for split, (accuracy, images) in document["accuracy"].items()
            },
            training_sha256=document["training_sha256"],
            versions=dict(document["versions"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, ConfigError) as error:
        raise ArtifactError(
            f"{path}: its description lacks or misspells something ({error!r}). Get an unaltered copy."
        ) from error


def _zeros(header: TaskHeader, widths: Mapping[str, int], neurons: Neurons) -> dict[str, Array]:
    """Tensors of the right names, shapes and types for a task that has not been trained yet."""

    def zeros(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.zeros(shape, np.float32)

    adapters = {
        site: AdapterWeights(zeros(widths[site], count), zeros(count, widths[site])) for site, count in neurons.items()
    }
    classes = len(header.classes)
    head = HeadWeights(zeros(classes, header.backbone.features), zeros(classes))
    return encode_weights(adapters, head, header.store)


def _faults(task: Task, document: dict[str, Any]) -> list[str]:
    """Everything about a task's description that makes no sense, or else about its tensors that contradicts it."""
    if faults := _header_faults(task.header, document):
        return faults
    try:
        widths = {site: int(width) for site, (width, _) in document["sites"].items()}
        neurons = {site: int(count) for site, (_, count) in document["sites"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return ["the table of sites is unreadable"]
    expected = {
        HEAD_WEIGHT: (len(task.header.classes), task.header.backbone.features),
        HEAD_BIAS: (len(task.header.classes),),
    }
    for site, width in widths.items():
        expected |= {site + DOWN: (width, neurons[site]), site + UP: (neurons[site], width)}
    if task.header.store is Store.INT8:
        expected |= _expected_scales(expected)
    faults = [f"tensor {name} is missing" for name in sorted(expected.keys() - task.tensors.keys())]
    faults += [f"tensor {name} is unknown" for name in sorted(task.tensors.keys() - expected.keys())]
    for name in sorted(expected.keys() & task.tensors.keys()):
        faults += _tensor_faults(name, task.tensors[name], expected[name], task.header.store)
    return faults


def _header_faults(header: TaskHeader, document: dict[str, Any]) -> list[str]:
    """Everything in a description that cannot be: JSON lets any value stand anywhere."""
    texts = (header.name, header.backbone.name, header.backbone.sha256, header.training_sha256)
    if not all(map(_is_text, (*texts, *header.versions, *header.versions.values()))):
        return ["a name, a hash or a version is not text"]
    faults = []
    classes = document["classes"]
    if not isinstance(classes, list) or not all(map(_is_text, classes)) or not 2 <= len(classes) == len(set(classes)):
        faults.append("class names must be two or more, all different")
    if header.activation not in ACTIVATION_NAMES:
        faults.append(f"activation: expected one of {', '.join(ACTIVATION_NAMES)}, got {header.activation!r}")
    faults += [
        f"accuracy on {split}: expected a share of 0..1 of some images, got {value.accuracy} of {value.images}"
        for split, value in header.accuracy.items()
        if not 0 <= value.accuracy <= 1 or value.images < 0
    ]
    return faults


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:  # half of a surrogate pair, which no file can hold
        return False


def _expected_scales(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    scales: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if len(shape) == 2:
            scales[name + SCALE] = (shape[1] if name.endswith(DOWN) else shape[0],)
    return scales


def _tensor_faults(name: str, values: Array, shape: tuple[int, ...], store: Store) -> list[str]:
    dtype = store.weight_dtype if len(shape) == 2 else store.bias_dtype
    faults = []
    if values.shape != shape:
        faults.append(f"tensor {name}: expected shape {list(shape)}, got {list(values.shape)}")
    if 0 in shape:
        faults.append(f"tensor {name}: a site without neurons must not be in the file")
    if values.dtype != dtype:
        faults.append(f"tensor {name}: expected {dtype}, got {values.dtype}")
    elif not np.isfinite(values).all():
        faults.append(f"tensor {name}: holds values that are infinite or not a number")
    return faults
