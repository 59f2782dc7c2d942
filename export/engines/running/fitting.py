"""A task's tensors as an engine takes them: in its types, all of them, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ArtifactError
from mimi_edge.export.engines.running.executor import Shape
from mimi_edge.texts import fault_list

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Slot:
    """What an engine takes under one name.

    Attributes:
        dtype: of the values.
        shape: of the tensor; or how many values, where the engine keeps no shape.
    """

    dtype: np.dtype[Any]
    shape: Shape | int

    def fault(self, made: NDArray[Any]) -> str | None:
        """What is wrong with a tensor of this type; None if nothing is."""
        if isinstance(self.shape, int) and made.size != self.shape:
            return f"expected {self.shape} values, got {made.size}"
        if isinstance(self.shape, tuple) and made.shape != self.shape:
            return f"expected {list(self.shape)}, got {list(made.shape)}"
        if not np.isfinite(made.astype(np.float32)).all():
            return f"holds values that {made.dtype} cannot keep"
        return None


def fitting(tensors: Tensors, slots: Mapping[str, Slot], task: str) -> dict[str, NDArray[Any]]:
    """A task's tensors in the engine's types, contiguous.

    Args:
        tensors: by name, padded.
        slots: by name.
        task: name of it.

    Raises:
        ArtifactError: they are not those that the engine takes; every fault is named.
    """
    made: dict[str, NDArray[Any]] = {}
    with np.errstate(over="ignore"):
        for name, slot in slots.items():
            if name in tensors:
                made[name] = np.ascontiguousarray(tensors[name], slot.dtype)
    if faults := list(_faults(tensors, made, slots)):
        raise ArtifactError(
            f"Task {task} does not fit the engine:\n{fault_list(faults)}\n"
            "Export an engine with this task among those it is for."
        )
    return made


def _faults(given: Tensors, made: Tensors, slots: Mapping[str, Slot]) -> Iterator[str]:
    for name in sorted(slots.keys() | given.keys()):
        if name not in given:
            yield f"{name}: missing"
        elif name not in slots:
            yield f"{name}: the engine takes no such tensor"
        elif fault := slots[name].fault(made[name]):
            yield f"{name}: {fault}"
