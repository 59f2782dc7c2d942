"""The JSON file beside an engine: what it was built from, by what, for what, and what was checked.

It says enough to refuse an engine without loading it, and to feed the one that is loaded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.documents import FaultyError, json_value, read_bytes
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.engines.building.requests import CAPABILITY, BatchRange
from mimi_edge.export.engines.tensorrt.tensors import EngineTensor
from mimi_edge.export.external_data import is_plain_name
from mimi_edge.parts import upgrade_words
from mimi_edge.runtimes import ENGINE_BACKENDS
from mimi_edge.texts import excerpt, fault_list

SCHEMA = 1
LARGEST_FILE_BYTES = 16 * 1000**2
LARGEST_ENGINE_BYTES = 64 * 1000**3
LARGEST_DIMENSION = 2**31 - 1
LARGEST_TENSOR = 2**40
HIGHEST_RANK = 8
LONGEST_NAME = 1000
DTYPES = frozenset({"float32", "float16", "bfloat16", "int8", "int32", "int64", "bool", "uint8"})
DIGEST = re.compile("[0-9a-f]{64}")


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

    engine: str
    sha256: str
    size_bytes: int
    backend: Backend
    version: str
    gpu: str | None
    compute_capabilities: tuple[str, ...]
    cuda: str | None
    precision: Precision
    strategy: Strategy
    mixed: bool
    ranges: Mapping[str, BatchRange]
    tensors: tuple[EngineTensor, ...]
    tasks: Mapping[str, str]
    backbone_sha256: str
    layout: Mapping[str, Any] | None = None
    kept_fp32: Mapping[str, str] = field(default_factory=dict)
    passes: tuple[str, ...] = ()
    prefix_blocks: int = 0
    build_seconds: float = 0.0
    timing_cache: str = "not used"
    check: Mapping[str, Any] | str = "not run: nobody asked for it"
    mimi_edge: str = ""

    def __post_init__(self) -> None:
        if faults := list(_faults(_document(self))):
            raise ConfigError("This cannot be said of an engine:\n" + fault_list(faults))

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
    return f"NOT PROVED: nobody has compared the answers of {engine} with those that were trained ({why})."


def sidecar_name(engine: str) -> str:
    """Name of the sidecar of an engine's file."""
    return f"{Path(engine).name.removesuffix('.engine')}.json"


def sidecar_bytes(sidecar: Sidecar) -> bytes:
    """A sidecar as its file holds it: JSON with sorted keys."""
    text = json.dumps(_document(sidecar), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def read_sidecar(path: Path) -> Sidecar:
    """Reads a sidecar; the engine is not looked at.

    Raises:
        ArtifactError: it is missing, damaged or of a newer schema; every fault is listed.
    """
    try:
        content = read_bytes(path, LARGEST_FILE_BYTES)
    except OSError as error:
        raise ArtifactError(f"Cannot read {path} as a sidecar ({error.strerror}). Build the engine again.") from error
    return parse_sidecar(content, path)


def parse_sidecar(content: bytes, path: Path) -> Sidecar:
    """A sidecar from the bytes of its file; `path` is for messages.

    Raises:
        ArtifactError: it is damaged or of a newer schema; every fault is listed.
    """
    try:
        document = json_value(content, largest_bytes=LARGEST_FILE_BYTES)
    except FaultyError as error:
        raise ArtifactError(f"{path} is no sidecar of an engine ({error}). Build the engine again.") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise ArtifactError(f"{path} has schema {schema}; this mimi-edge reads up to {SCHEMA}. {upgrade_words()}")
    if faults := list(_faults(document)):
        raise ArtifactError(f"{path} does not describe an engine:\n{fault_list(faults)}\nBuild the engine again.")
    return _sidecar(document)


def _document(sidecar: Sidecar) -> dict[str, Any]:
    document = {name: getattr(sidecar, name) for name in sidecar.__dataclass_fields__}
    return document | {
        "schema": SCHEMA,
        "backend": sidecar.backend.value,
        "precision": sidecar.precision.value,
        "strategy": sidecar.strategy.value,
        "compute_capabilities": list(sidecar.compute_capabilities),
        "ranges": {name: [one.smallest, one.best, one.largest] for name, one in sidecar.ranges.items()},
        "tensors": [asdict(tensor) | {"shape": list(tensor.shape)} for tensor in sidecar.tensors],
        "tasks": dict(sidecar.tasks),
        "layout": None if sidecar.layout is None else dict(sidecar.layout),
        "kept_fp32": dict(sidecar.kept_fp32),
        "passes": list(sidecar.passes),
        "check": sidecar.check if isinstance(sidecar.check, str) else dict(sidecar.check),
    }


def _sidecar(document: dict[str, Any]) -> Sidecar:
    tensors = (EngineTensor(**tensor | {"shape": tuple(tensor["shape"])}) for tensor in document["tensors"])
    return Sidecar(
        **{name: value for name, value in document.items() if name != "schema"}
        | {
            "backend": Backend(document["backend"]),
            "precision": Precision(document["precision"]),
            "strategy": Strategy(document["strategy"]),
            "compute_capabilities": tuple(document["compute_capabilities"]),
            "ranges": {name: BatchRange(*sizes) for name, sizes in document["ranges"].items()},
            "tensors": tuple(tensors),
            "passes": tuple(document["passes"]),
        }
    )


# Whether a document makes sense, looked at before anything is made of it.

Test = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME


def _is_text_or_none(value: Any) -> bool:
    return value is None or _is_text(value)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def _is_count(value: Any, largest: int = LARGEST_DIMENSION, smallest: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and smallest <= value <= largest


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_list(value: Any, item: Test) -> bool:
    return isinstance(value, list) and all(item(one) for one in value)


def _is_table(value: Any, item: Test) -> bool:
    return isinstance(value, dict) and all(_is_text(name) and item(one) for name, one in value.items())


def _is_range(value: Any) -> bool:
    try:
        return _is_list(value, _is_count) and len(value) == 3 and bool(BatchRange(*value))
    except ConfigError:
        return False


def _one_of(choices: Iterable[Backend | Precision | Strategy]) -> tuple[Test, str]:
    values = tuple(choice.value for choice in choices)
    return (lambda value: value in values), " or ".join(values)


FIELDS: Mapping[str, tuple[Test, str]] = {
    "schema": (lambda value: value == SCHEMA and not isinstance(value, bool), str(SCHEMA)),
    "engine": (lambda value: _is_text(value) and is_plain_name(value), "the name of a file in the same folder"),
    "sha256": (_is_digest, "64 hexadecimal digits"),
    "size_bytes": (lambda value: _is_count(value, LARGEST_ENGINE_BYTES, 1), f"1 to {LARGEST_ENGINE_BYTES}"),
    "backend": _one_of(ENGINE_BACKENDS),
    "version": (_is_text, "a text"),
    "gpu": (_is_text_or_none, "a text or null"),
    "compute_capabilities": (
        lambda value: _is_list(value, lambda one: isinstance(one, str) and CAPABILITY.fullmatch(one) is not None),
        'a list of compute capabilities like "8.6"',
    ),
    "cuda": (_is_text_or_none, "a text or null"),
    "precision": _one_of(Precision),
    "strategy": _one_of(Strategy),
    "mixed": (lambda value: isinstance(value, bool), "true or false"),
    "ranges": (lambda value: _is_table(value, _is_range), "a table of [MIN, OPT, MAX]"),
    "tensors": (lambda value: _is_list(value, lambda one: isinstance(one, dict)), "a list of tables"),
    "tasks": (lambda value: _is_table(value, _is_digest) and bool(value), "a table of task files' sha256"),
    "backbone_sha256": (_is_digest, "64 hexadecimal digits"),
    "layout": (lambda value: value is None or _is_table(value, lambda _: True), "a table or null"),
    "kept_fp32": (lambda value: _is_table(value, lambda one: isinstance(one, str)), "a table of texts"),
    "passes": (lambda value: _is_list(value, _is_text), "a list of texts"),
    "prefix_blocks": (_is_count, "a whole number"),
    "build_seconds": (_is_seconds, "a number of seconds"),
    "timing_cache": (_is_text, "a text"),
    "check": (lambda value: _is_text(value) or _is_table(value, lambda _: True), "a table or a text"),
    "mimi_edge": (lambda value: isinstance(value, str) and len(value) <= LONGEST_NAME, "a text"),
}
"""Name of a field -> whether a value will do, and what is expected of it."""


def _faults(document: Any) -> Iterator[str]:
    if not isinstance(document, dict):
        yield f"expected a table, got {excerpt(document)}"
        return
    yield from (f"{name} is missing" for name in FIELDS if name not in document)
    yield from (f"{excerpt(name)} is not known" for name in document if name not in FIELDS)
    for name, (fits, expected) in FIELDS.items():
        if name in document and not fits(document[name]):
            yield f"{name} is {excerpt(document[name])}; expected {expected}"
    tensors = document.get("tensors")
    if isinstance(tensors, list):
        yield from _tensor_faults(tensors)


def _tensor_faults(tensors: list[Any]) -> Iterator[str]:
    tables = [tensor for tensor in tensors if isinstance(tensor, dict)]
    for tensor in tables:
        name = excerpt(tensor.get("name"))
        if set(tensor) != {"name", "mode", "dtype", "shape"}:
            yield f"tensor {name} has {excerpt(sorted(tensor))}; expected name, mode, dtype and shape"
            continue
        if not _is_text(tensor["name"]):
            yield f"a tensor is called {name}"
        if tensor["mode"] not in ("input", "output"):
            yield f"tensor {name} is {excerpt(tensor['mode'])}; expected input or output"
        if not isinstance(tensor["dtype"], str) or tensor["dtype"] not in DTYPES:
            yield f"tensor {name} has data type {excerpt(tensor['dtype'])}; expected {', '.join(sorted(DTYPES))}"
        if not _is_shape(tensor["shape"]):
            yield f"tensor {name} has shape {excerpt(tensor['shape'])}, which no tensor of an engine has"
    names = [tensor.get("name") for tensor in tables]
    if len({str(name) for name in names}) != len(names):
        yield "several tensors have the same name"
    for mode in ("input", "output"):
        if not any(tensor.get("mode") == mode for tensor in tables):
            yield f"there is no {mode}"


def _is_shape(value: Any) -> bool:
    if not _is_list(value, lambda size: _is_count(size, smallest=-1) and size != 0) or len(value) > HIGHEST_RANK:
        return False
    return bool(math.prod(size for size in value if size > 0) <= LARGEST_TENSOR)
