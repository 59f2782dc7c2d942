"""How large a task file will be, to the byte, before it exists.

Only what depends on the method's tensors is worked out anew for each question: the table of sites, the table of
tensors, and the tensors. Everything else is measured once, on the file of a task that has only a head.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping

import numpy as np

from mimi_edge.tasks.files import LENGTH_PREFIX_BYTES, site_table, stores_document, task_bytes
from mimi_edge.tasks.packing import filed
from mimi_edge.tasks.task import (
    HEAD_BIAS,
    HEAD_WEIGHT,
    HeadWeights,
    Shape,
    Task,
    TaskHeader,
    encode_tensors,
    tensor_shapes,
)
from mimi_edge.texts import canonical_json

ALIGNMENT = 8
"""The table of tensors is filled up with spaces to a multiple of so many bytes."""
_DTYPES = {
    np.dtype(np.float32): "F32",
    np.dtype(np.float16): "F16",
    np.dtype(np.int8): "I8",
    np.dtype(np.uint8): "U8",
}
"""In the order in which safetensors lays them down."""
_ORDER = {dtype: number for number, dtype in enumerate(_DTYPES)}


def size_bytes(header: TaskHeader, adapted: Mapping[str, Shape]) -> int:
    """Exactly how large the file of such a task will be.

    Args:
        header: of the task; its accuracies may still be anything, they take the same room.
        adapted: names and shapes of the method's tensors.
    """
    return sizing(header)(adapted)


def sizing(header: TaskHeader) -> Callable[[Mapping[str, Shape]], int]:
    """A function from the method's tensors to the size of the file, for many questions about one task.

    Args:
        header: of the task; its accuracies may still be anything, they take the same room.
    """
    fixed = _fixed_bytes(header)

    def size(adapted: Mapping[str, Shape]) -> int:
        shapes = tensor_shapes(header, adapted)
        table, content = _tensor_table(shapes, header)
        told = _quoted_bytes(canonical_json(site_table(adapted))) + _quoted_bytes(
            canonical_json(stores_document(header, shapes))
        )
        return LENGTH_PREFIX_BYTES + _aligned(fixed + told + table) + content

    return size


def _fixed_bytes(header: TaskHeader) -> int:
    """What the two tables do not account for in the beginning of the file, whatever it is."""
    classes = len(header.classes)
    head = HeadWeights(np.zeros((classes, header.backbone.features), np.float32), np.zeros(classes, np.float32))
    weights = {HEAD_WEIGHT: head.weight, HEAD_BIAS: head.bias}
    content = task_bytes(Task(header, encode_tensors(weights, header.store, header.head_store)))
    length = int.from_bytes(content[:LENGTH_PREFIX_BYTES], "little")
    text = content[LENGTH_PREFIX_BYTES : LENGTH_PREFIX_BYTES + length].rstrip(b" ")
    shapes = tensor_shapes(header, {})
    table, _ = _tensor_table(shapes, header)
    told = _quoted_bytes(canonical_json({})) + _quoted_bytes(canonical_json(stores_document(header, shapes)))
    return len(text) - table - told


def _tensor_table(shapes: Mapping[str, Shape], header: TaskHeader) -> tuple[int, int]:
    """Bytes of the entries of all tensors, and of the tensors; offsets count, so the order is that of the file."""
    entries = filed(header, shapes)
    table, offset = 0, 0
    for name in sorted(entries, key=lambda name: (_ORDER[entries[name][0]], name)):
        dtype, shape = entries[name]
        end = offset + math.prod(shape) * dtype.itemsize
        entry = {"dtype": _DTYPES[dtype], "shape": shape, "data_offsets": (offset, end)}
        table += len(f",{canonical_json(name)}:{canonical_json(entry)}".encode())
        offset = end
    return table, offset


def _quoted_bytes(text: str) -> int:
    """Of a text inside a JSON string."""
    return len(json.dumps(text, ensure_ascii=False, allow_nan=False).encode()) - len('""')


def _aligned(count: int) -> int:
    return math.ceil(count / ALIGNMENT) * ALIGNMENT
