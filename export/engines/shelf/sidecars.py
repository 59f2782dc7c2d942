"""The JSON file beside an engine: what it was built from, by what, for what, and what was checked.

It says enough to refuse an engine without loading it, and to feed the one that is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.documents import DocumentKind, raw_document, typed_document
from mimi_edge.errors import ConfigError
from mimi_edge.export.engines.building.requests import CAPABILITY, BatchRange
from mimi_edge.export.engines.tensorrt.tensors import LARGEST_DIMENSION, EngineTensor
from mimi_edge.export.external_data import is_plain_name
from mimi_edge.export.manifest import DIGEST
from mimi_edge.runtimes import ENGINE_BACKENDS, names
from mimi_edge.texts import excerpt

SCHEMA = 1
LARGEST_FILE_BYTES = 16 * 1000**2
LARGEST_ENGINE_BYTES = 64 * 1000**3
LONGEST_NAME = 1000

Name = Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME, description="a text")]
Digest = Annotated[str, Meta(pattern=f"^{DIGEST.pattern}$", description="64 hexadecimal digits")]
Count = Annotated[int, Meta(ge=0, le=LARGEST_DIMENSION, description="a whole number")]
Bytes = Annotated[int, Meta(ge=1, le=LARGEST_ENGINE_BYTES, description=f"1 to {LARGEST_ENGINE_BYTES}")]
Seconds = Annotated[float, Meta(ge=0, description="a number of seconds")]
Capability = Annotated[str, Meta(pattern=f"^{CAPABILITY.pattern}$", description='a compute capability like "8.6"')]

KIND = DocumentKind("a sidecar of an engine", LARGEST_FILE_BYTES, "Build the engine again.", newest=SCHEMA)


@dataclass(frozen=True)
class Sidecar:
    """What is known about an engine.

    Attributes:
        engine: name of its file, in the same folder.
        sha256: of that file.
        size_bytes: of that file.
        backend: that built it and runs it.
        version: of the backend.
        gpu: name of the GPU that it was built on, None where there was none.
        compute_capabilities: that GPU's, or those that it was built for.
        cuda: version of the CUDA runtime, None where there was none.
        precision: that was asked for.
        strategy: how it serves tasks.
        mixed: each image of a batch names its own task.
        ranges: name of a dimension that varies -> its sizes.
        tensors: inputs and outputs.
        tasks: name -> sha256 of the task file.
        backbone_sha256: content hash of the backbone.
        layout: how the adapters lie in the inputs of a shared engine, None for others.
        kept_fp32: layer -> why it is not in the precision that was asked for.
        passes: that the graph went through, in order.
        prefix_blocks: blocks before the first adapter of any task, which run once a frame; 0 where they do not.
        build_seconds: that the build took.
        timing_cache: what a timing cache did for it.
        check: figures of the proof, or "not run: why".
        mimi_edge: version of mimi-edge that built it.
    """

    engine: Name
    sha256: Digest
    size_bytes: Bytes
    backend: Backend
    version: Name
    gpu: Name | None
    compute_capabilities: tuple[Capability, ...]
    cuda: Name | None
    precision: Precision
    strategy: Strategy
    mixed: bool
    ranges: Mapping[Name, BatchRange]
    tensors: tuple[EngineTensor, ...]
    tasks: Mapping[Name, Digest]
    backbone_sha256: Digest
    layout: Mapping[str, Any] | None = None
    kept_fp32: Mapping[Name, str] = field(default_factory=dict)
    passes: tuple[Name, ...] = ()
    prefix_blocks: Count = 0
    build_seconds: Seconds = 0.0
    timing_cache: Name = "not used"
    check: Mapping[str, Any] | Name = "not run: nobody asked for it"
    mimi_edge: Annotated[str, Meta(max_length=LONGEST_NAME)] = ""

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise ConfigError("; ".join(faults))

    @property
    def unproved(self) -> str | None:
        """Why nobody knows whether the engine answers what was trained; None where it was held against its tasks."""
        outputs = self.check if isinstance(self.check, str) else self.check.get("outputs", "not run: not recorded")
        each = outputs.values() if isinstance(outputs, Mapping) else [outputs]
        return next((one.removeprefix("not run: ") for one in each if isinstance(one, str)), None)

    @property
    def inputs(self) -> tuple[EngineTensor, ...]:
        """What goes in."""
        return tuple(tensor for tensor in self.tensors if tensor.mode == "input")

    @property
    def outputs(self) -> tuple[EngineTensor, ...]:
        """What comes out."""
        return tuple(tensor for tensor in self.tensors if tensor.mode == "output")


def unproved_note(engine: str, why: str) -> str:
    """What to say of an engine whose answers were never compared."""
    reason = why.removesuffix(".")
    return f"NOT PROVED: nobody has compared the answers of {engine} with those that were trained: {reason}."


def sidecar_name(engine: str) -> str:
    """Name of the sidecar of an engine's file."""
    return f"{Path(engine).name.removesuffix('.engine')}.json"


def sidecar_bytes(sidecar: Sidecar) -> bytes:
    """A sidecar as its file holds it: JSON with sorted keys."""
    text = json.dumps(_document(sidecar), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def parse_sidecar(content: bytes, path: Path) -> Sidecar:
    """A sidecar from the bytes of its file; `path` is for messages.

    Raises:
        ArtifactError: it is damaged or of a newer schema; every fault is listed.
    """
    document = raw_document(content, path, KIND)
    if isinstance(ranges := document.get("ranges"), dict):
        document["ranges"] = {name: _range_of(sizes) for name, sizes in ranges.items()}
    return typed_document(document, path, KIND, Sidecar)


def _range_of(sizes: Any) -> Any:
    """The file has [MIN, OPT, MAX]."""
    names = [one.name for one in fields(BatchRange)]
    return dict(zip(names, sizes, strict=True)) if isinstance(sizes, list) and len(sizes) == len(names) else sizes


def _document(sidecar: Sidecar) -> dict[str, Any]:
    return {
        **vars(sidecar),
        "schema": SCHEMA,
        "ranges": {name: [one.smallest, one.best, one.largest] for name, one in sidecar.ranges.items()},
        "tensors": [asdict(tensor) for tensor in sidecar.tensors],
    }


def _faults(sidecar: Sidecar) -> Iterator[str]:
    """What no single entry tells."""
    if not is_plain_name(sidecar.engine):
        yield f"engine is {excerpt(sidecar.engine)}; expected the name of a file in the same folder"
    if sidecar.backend not in ENGINE_BACKENDS:
        yield f"backend is {sidecar.backend.value}; expected {names(ENGINE_BACKENDS)}"
    if not sidecar.tasks:
        yield "there is no task"
    if len({tensor.name for tensor in sidecar.tensors}) != len(sidecar.tensors):
        yield "several tensors have the same name"
    yield from (f"there is no {mode}" for mode in ("input", "output") if not getattr(sidecar, f"{mode}s"))
