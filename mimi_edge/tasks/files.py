"""Task files: written whole, sized exactly before they exist, and rejected when anything does not fit.

A task file is one safetensors file. Its metadata has a single entry, `mimi_edge`, a JSON text with sorted keys: the
safetensors writer puts several entries in an order of its own choosing, and the same task must give the same bytes. The
file states what its content hashes to (`mimi_edge.tasks.content`), and whoever reads it checks that.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mimi_edge.choices import ACTIVATION_NAMES
from mimi_edge.documents import (
    DocumentKind,
    FaultyError,
    json_value,
    opened_regular,
    raw_document,
    typed,
    typed_document,
)
from mimi_edge.errors import ArtifactError
from mimi_edge.files import sha256_of_bytes, write_whole
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.tasks.content import CONTENT_KEY, UNKNOWN, states_itself, with_hash
from mimi_edge.tasks.packing import listed_shapes, packed, unpacked
from mimi_edge.tasks.stores import SCALE, Array, Store
from mimi_edge.tasks.task import (
    DOWN,
    MIMI,
    BackboneIdentity,
    MethodChoice,
    Shape,
    SplitAccuracy,
    Task,
    TaskHeader,
    bottleneck_shapes,
    tensor_dtype,
    tensor_shapes,
)
from mimi_edge.texts import canonical_json, cut, excerpt, fault_list

SCHEMA = 3
STORES_SCHEMA, METHODS_SCHEMA, FIRST_SCHEMA = SCHEMA, 2, 1
"""Tasks of MiMi are written as the first release reads them; those of other methods name their method, and are not. Nor
are those that have packed weights, or a head that is kept in another way."""
METADATA_KEY = "mimi_edge"
LENGTH_PREFIX_BYTES = 8
LARGEST_HEADER_BYTES = 100_000_000
"""What the safetensors format itself allows."""
OUTLINED = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8}
"""Types of numbers in a task file, in safetensors' spelling."""
SUFFIX = ".safetensors"
LARGEST_FILE_BYTES = 2_000_000_000
DAMAGED = "Copy it again from where it was made, or train it again."
KIND = DocumentKind(
    "a task file", LARGEST_HEADER_BYTES, mend=DAMAGED, absent="Check the path.", newest=SCHEMA, open=True
)


@dataclass(frozen=True)
class _Description:
    """What `_metadata` writes; the schema is looked at before."""

    name: str
    backbone: BackboneIdentity
    sites: Mapping[str, tuple[int, int]]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    activation: str
    store: Store
    accuracy: Mapping[str, tuple[str, int]]
    training_sha256: str
    versions: Mapping[str, str]
    content_sha256: str | None = None
    method: MethodChoice = field(default_factory=MethodChoice)
    head_store: Store | None = None
    packed: Mapping[str, tuple[int, int]] = field(default_factory=dict)


KNOWN_KEYS = frozenset({"schema", *(one.name for one in fields(_Description))} - {CONTENT_KEY})
"""Of the description of a file without a hash."""


@dataclass(frozen=True)
class TensorLocation:
    """Where a tensor lies in its file: dtype (`F32`, `F16`, `I8`, `U8`), byte offset and length."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


@dataclass(frozen=True, eq=False)
class TaskFile:
    """A task file that was read, once: whoever copies, merges or compares it takes what was read.

    Attributes:
        path: where it was read.
        content: all of it.
        task: in it.
        header_bytes: where its tensors begin.
        stated_sha256: what it says that its content hashes to; None for one of an earlier release.
    """

    path: Path
    content: bytes = field(repr=False)
    task: Task
    header_bytes: int
    stated_sha256: str | None

    @property
    def name(self) -> str:
        """Of the task."""
        return self.task.header.name

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the whole file."""
        return sha256_of_bytes(self.content)

    @cached_property
    def locations(self) -> dict[str, TensorLocation]:
        """Where each tensor lies in it."""
        return _locations(self.content[: self.header_bytes])


def task_bytes(task: Task) -> bytes:
    """The content of a task's file."""
    tensors = {name: np.ascontiguousarray(values) for name, values in packed(task.header, task.tensors).items()}
    return with_hash(save(tensors, metadata={METADATA_KEY: _metadata(task)}))


def write_task(task: Task, path: Path) -> int:
    """Writes a task file whole; returns its size in bytes."""
    content = task_bytes(task)
    write_whole(path, content)
    return len(content)


def open_task(path: Path) -> TaskFile:
    """Reads a task file, and checks the hash that it states.

    Raises:
        ArtifactError: it is not a task file, is damaged, altered, or is of a newer format; every fault is named.
    """
    try:
        with opened_regular(path, LARGEST_FILE_BYTES) as opened:
            header, text = _header(opened)
            content = header + opened.read()
        tensors = load(content)
    except OSError as error:
        raise ArtifactError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except (SafetensorError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path} is not a whole task file ({cut(str(error), 300)}). {DAMAGED}") from error
    document = raw_document(text, path, KIND)
    task = _fitting(path, document, tensors)
    _check_content(path, content, document)
    return TaskFile(path, content, task, len(header), document.get(CONTENT_KEY))


def read_task(path: Path) -> Task:
    """The task of a file that nothing else is asked of; as of `open_task`."""
    return open_task(path).task


def read_outline(path: Path) -> Task:
    """What a task file says about its task, without reading its weights: they are zeros that take no memory.

    Takes the same time for a large task as for a small one. The file's hash is not checked, its size is.

    Raises:
        ArtifactError: it is not a task file, is of another size than it says, or is of a newer format.
    """
    try:
        with opened_regular(path, LARGEST_FILE_BYTES) as opened:
            header, text = _header(opened)
            size = os.fstat(opened.fileno()).st_size
        places = _locations(header)
        end = max((place.offset + place.length for place in places.values()), default=0)
        if end != size:
            raise FaultyError(f"its tensors end at {end}, the file at {size}")
        tensors = {name: _zeros_in_place(name, place) for name, place in places.items()}
    except OSError as error:
        raise ArtifactError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except ValueError as error:
        raise ArtifactError(f"{path} is not a whole task file ({cut(str(error), 300)}). {DAMAGED}") from error
    return _fitting(path, raw_document(text, path, KIND), tensors, outline=True)


def _zeros_in_place(name: str, place: TensorLocation) -> Array:
    """Zeros of a tensor's shape that take no memory.

    Raises:
        ValueError: its shape is not that of its bytes, or its type is none of a task file.
    """
    dtype = OUTLINED.get(place.dtype)
    if dtype is None or min(place.shape, default=0) < 0:
        raise FaultyError(f"tensor {excerpt(name)} is {excerpt(place.dtype)} of shape {excerpt(place.shape)}")
    if math.prod(place.shape) * np.dtype(dtype).itemsize != place.length:
        raise FaultyError(f"tensor {excerpt(name)} of shape {excerpt(place.shape)} has {place.length} bytes")
    return np.broadcast_to(np.zeros((), dtype), place.shape)


def _fitting(path: Path, document: Mapping[str, Any], filed: Mapping[str, Array], *, outline: bool = False) -> Task:
    """A task of a description and tensors of a file that go together.

    Raises:
        ArtifactError: they do not; every fault is named.
    """
    description = typed_document(document, path, KIND, _Description)
    header = _task_header(path, description)
    try:
        task = Task(header, unpacked(header, filed, description.packed, outline=outline))
    except FaultyError as error:
        raise _misfit(path, error.faults) from error
    if faults := _header_faults(header) or _tensors_faults(task, description.sites):
        raise _misfit(path, faults)
    return task


def _misfit(path: Path, faults: Sequence[str]) -> ArtifactError:
    return ArtifactError(
        f"{path} does not fit together:\n{fault_list(faults)}\nTrain it again, or get an unaltered copy."
    )


@dataclass(frozen=True)
class _TensorEntry:
    """A tensor in the header of a safetensors file."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def _locations(header: bytes) -> dict[str, TensorLocation]:
    entries = json_value(header[LENGTH_PREFIX_BYTES:])
    if not isinstance(entries, dict):
        raise FaultyError(f"its header is {excerpt(entries)}")
    tensors = {name: entry for name, entry in entries.items() if name != "__metadata__"}
    start = len(header)
    return {
        name: TensorLocation(
            dtype=entry.dtype,
            shape=entry.shape,
            offset=start + entry.data_offsets[0],
            length=entry.data_offsets[1] - entry.data_offsets[0],
        )
        for name, entry in typed(tensors, dict[str, _TensorEntry]).items()
    }


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


def _header(opened: BinaryIO) -> tuple[bytes, str]:
    """The first bytes of a safetensors file, up to its tensors, and the text of ours in them.

    Raises:
        FaultyError: it is no safetensors file, or none of a task.
    """
    header = _header_bytes(opened)
    document = json_value(header[LENGTH_PREFIX_BYTES:])
    metadata = document.get("__metadata__") if isinstance(document, dict) else None
    text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise FaultyError("it does not say what task it holds")
    return header, text


def _header_bytes(opened: BinaryIO) -> bytes:
    prefix = opened.read(LENGTH_PREFIX_BYTES)
    length = int.from_bytes(prefix, "little")
    if not 0 < length <= LARGEST_HEADER_BYTES:
        raise FaultyError(f"its header is said to have {length:,} bytes; expected 1 to {LARGEST_HEADER_BYTES:,}")
    return prefix + opened.read(length)


def _metadata(task: Task) -> str:
    header = task.header
    shapes = {name: values.shape for name, values in task.tensors.items()}
    others = {} if header.method.name == MIMI else {"method": asdict(header.method)}
    stores = stores_document(header, shapes)
    document = (
        others
        | stores
        | {
            "schema": STORES_SCHEMA if stores else METHODS_SCHEMA if others else FIRST_SCHEMA,
            "name": header.name,
            "backbone": asdict(header.backbone),
            "sites": site_table(shapes),
            "classes": header.classes,
            "preprocessing": header.preprocessing.document(),
            "activation": header.activation,
            "store": header.store.value,
            # Six decimals always: the file's size must be known before the accuracy is.
            "accuracy": {split: [f"{value.accuracy:.6f}", value.images] for split, value in header.accuracy.items()},
            "training_sha256": header.training_sha256,
            "versions": dict(header.versions),
            CONTENT_KEY: UNKNOWN,
        }
    )
    return canonical_json(document)


def stores_document(header: TaskHeader, shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """What a description says of how weights are kept, beyond their one format; nothing where there is no more to say.

    Args:
        header: of the task.
        shapes: of its tensors.
    """
    if header.head_store is None and not header.store.low_bits:
        return {}
    of_head = {} if header.head_store is None else {"head_store": header.head_store.value}
    return of_head | {"packed": listed_shapes(header, shapes)}


def site_table(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, list[int]]:
    """How a description lists the sites that have neurons, by the shapes of all tensors: M and N by name."""
    return {name.removesuffix(DOWN): list(shape) for name, shape in shapes.items() if name.endswith(DOWN)}


def _task_header(path: Path, description: _Description) -> TaskHeader:
    try:
        accuracy = {
            split: SplitAccuracy(float(share), images) for split, (share, images) in description.accuracy.items()
        }
    except ValueError as error:
        raise ArtifactError(f"{path} states an accuracy that is no number ({error}). {DAMAGED}") from error
    return TaskHeader(
        name=description.name,
        backbone=description.backbone,
        classes=description.classes,
        preprocessing=description.preprocessing,
        activation=description.activation,
        store=description.store,
        accuracy=accuracy,
        training_sha256=description.training_sha256,
        versions=description.versions,
        method=description.method,
        head_store=description.head_store,
    )


def _header_faults(header: TaskHeader) -> list[str]:
    """Everything about a task's description that makes no sense."""
    faults = []
    if not 2 <= len(header.classes) == len(set(header.classes)):
        faults.append("class names must be two or more, all different")
    if header.activation not in ACTIVATION_NAMES:
        faults.append(f"activation: expected one of {', '.join(ACTIVATION_NAMES)}, got {excerpt(header.activation)}")
    faults += [
        f"accuracy on {split}: expected a share of 0..1 of some images, got {value.accuracy} of {value.images}"
        for split, value in header.accuracy.items()
        if not 0 <= value.accuracy <= 1 or value.images < 0
    ]
    return faults


def _tensors_faults(task: Task, sites: Mapping[str, tuple[int, int]]) -> list[str]:
    """Everything about a task's tensors that contradicts its description; `sites` has M and N."""
    expected = tensor_shapes(task.header, _adapted(task, sites))
    faults = [f"tensor {name} is missing" for name in sorted(expected.keys() - task.tensors.keys())]
    faults += [f"tensor {name} is unknown" for name in sorted(task.tensors.keys() - expected.keys())]
    for name in sorted(expected.keys() & task.tensors.keys()):
        faults += _tensor_faults(name, task.tensors[name], expected[name], task.header.store_of(name))
    return faults


def _adapted(task: Task, sites: Mapping[str, tuple[int, int]]) -> dict[str, Shape]:
    """The method's tensors.

    Which ones another method than MiMi has only the network tells, so those are taken as they are: whoever merges them
    compares them with the method's description.
    """
    widths = {site: width for site, (width, _) in sites.items()}
    adapted = bottleneck_shapes(widths, {site: count for site, (_, count) in sites.items()})
    if task.header.method.name == MIMI:
        return adapted
    own = {name: values.shape for name, values in task.tensors.items() if 0 < values.ndim < 3}
    scales = {name + SCALE for name in own}
    heads = tensor_shapes(task.header, {})
    return {name: shape for name, shape in own.items() if name not in heads and name not in scales} | adapted


def _tensor_faults(name: str, values: Array, shape: tuple[int, ...], store: Store) -> list[str]:
    dtype = tensor_dtype(name, shape, store)
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
