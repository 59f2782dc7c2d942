"""What an engine is to be built for; light enough for the command line to read its options with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mimi_edge.errors import ConfigError
from mimi_edge.texts import fault_list

LARGEST_SIZE = 1 << 16
CAPABILITY = re.compile(r"\d{1,2}\.\d")
OPTIMIZATION_LEVELS = range(6)


@dataclass(frozen=True)
class BatchRange:
    """Sizes that one dimension can have, and the one that an engine is tuned for.

    Attributes:
        smallest: that an engine takes.
        best: that it is tuned for.
        largest: that it takes; memory is laid out for it.
    """

    smallest: int
    best: int
    largest: int

    def __post_init__(self) -> None:
        if faults := self._faults():
            raise ConfigError(f"{self} does not do as MIN:OPT:MAX: {'; '.join(faults)}.")

    def __str__(self) -> str:
        return f"{self.smallest}:{self.best}:{self.largest}"

    @staticmethod
    def parse(text: str) -> BatchRange:
        """Reads "MIN:OPT:MAX", or one number for all three.

        Raises:
            ConfigError: it is something else; the message lists every fault.
        """
        parts = text.split(":")
        wrong = [part for part in parts if not (part.isascii() and part.isdigit())]
        if wrong or len(parts) not in {1, 3}:
            faults = [f"{part!r} is not a whole number" for part in wrong]
            faults += [] if len(parts) in {1, 3} else [f"it has {len(parts)} numbers"]
            raise ConfigError(f"{text!r} is not MIN:OPT:MAX, like 1:8:32, or one number: {'; '.join(faults)}.")
        numbers = [int(part) for part in parts]
        return BatchRange(*(numbers if len(numbers) == 3 else numbers * 3))

    def _faults(self) -> list[str]:
        sizes = {"MIN": self.smallest, "OPT": self.best, "MAX": self.largest}
        faults = [f"{name} is {size}, expected at least 1" for name, size in sizes.items() if size < 1]
        faults += [
            f"{name} is {size}, expected at most {LARGEST_SIZE}" for name, size in sizes.items() if size > LARGEST_SIZE
        ]
        if self.smallest > self.best:
            faults.append("MIN is larger than OPT")
        if self.best > self.largest:
            faults.append("OPT is larger than MAX")
        return faults


@dataclass(frozen=True)
class BuildRequest:
    """What an engine is to be built from and for.

    Attributes:
        graph: path of the ONNX graph; its weights lie beside it.
        ranges: name of a dimension that varies, as in the graph (`batch`) -> its sizes.
        refittable: names of the weights that can be replaced in the engine; of no others.
        marked: names of values that become outputs too.
        compute_capabilities: like "8.6", to build for GPUs that are not here; empty: for the one that is.
        workspace_bytes: device memory that kernels may use to work in; None leaves it to TensorRT.
        optimization_level: 0 (fast to build) to 5 (fast to run); None leaves it to TensorRT.
        layer_details: the engine remembers enough for the inspector to show data types and shapes, not only names.
        label: how messages call the engine.
    """

    graph: Path
    ranges: Mapping[str, BatchRange] = field(default_factory=dict)
    refittable: frozenset[str] = frozenset()
    marked: tuple[str, ...] = ()
    compute_capabilities: tuple[str, ...] = ()
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    layer_details: bool = False
    label: str = "the engine"

    def __post_init__(self) -> None:
        if faults := self._faults():
            raise ConfigError("An engine cannot be built like this:\n" + fault_list(faults))

    def _faults(self) -> list[str]:
        faults = [
            f"compute capability {one!r} is not like 8.6"
            for one in self.compute_capabilities
            if not CAPABILITY.fullmatch(one)
        ]
        for what, names in (("compute capability", self.compute_capabilities), ("output", self.marked)):
            faults += [
                f"{what} {name} is named twice" for name in sorted({name for name in names if names.count(name) > 1})
            ]
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            faults.append(f"the workspace is {self.workspace_bytes} bytes; expected at least 1")
        if self.optimization_level is not None and self.optimization_level not in OPTIMIZATION_LEVELS:
            faults.append(f"the optimization level is {self.optimization_level}; expected 0 to 5")
        return faults
