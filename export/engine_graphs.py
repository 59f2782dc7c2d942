"""Graphs on their way to an engine: a changed graph lies for a while, under a hidden name, beside the weights it uses.

It has to lie there because external data may not leave its folder, and linking the weights elsewhere does not help:
onnx refuses external data that has several hard links. The names end in `.part`, so a package sweeps away what killed
processes left. A process that adds a task to the package sweeps too: let a runtime open the file at once.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.files import MEGABYTE

if TYPE_CHECKING:
    import onnx_ir as ir

PREFIX = ".engine."
SUFFIX = ".part"
EMBEDDED_LIMIT_BYTES = 64 * MEGABYTE
"""Weights that a pass made are kept in the graph's own file up to this size together; protobuf ends at 2 GB."""
SMALL_BYTES = 1024
"""Tensors below this stay in the graph even then: shapes, axes and scales."""
UNWRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def engine_graph(model: ir.Model, folder: Path, *, embedded_limit_bytes: int = EMBEDDED_LIMIT_BYTES) -> Iterator[Path]:
    """Gives the path of a file with the graph in it; the file is gone when the block ends, however it ends.

    The model itself is not changed. What it takes from other files stays there. The same model gives the same bytes.

    Args:
        model: a graph whose external weights all lie in `folder`.
        folder: where the weights lie, usually a package.
        embedded_limit_bytes: weights in memory that are larger together go to a second hidden file beside the first.

    Raises:
        ArtifactError: the graph refers to a file that is not in the folder.
        ConfigError: the folder cannot be written.
        OSError: the disk is full.
    """
    _check_references(model, folder)
    with _hidden_files() as made:
        yield _write(model, folder, made, embedded_limit_bytes)


def _check_references(model: ir.Model, folder: Path) -> None:
    import onnx_ir

    tensors = [value.const_value for value in model.graph.initializers.values()]
    locations = {str(tensor.location) for tensor in tensors if isinstance(tensor, onnx_ir.ExternalTensor)}
    missing = sorted(name for name in locations if not (folder / name).is_file())
    if missing:
        raise ArtifactError(
            f"The graph takes weights from {', '.join(missing)}; expected in {folder}, and not there. "
            "Give the folder that the graph was loaded from."
        )


@contextmanager
def _hidden_files() -> Iterator[list[Path]]:
    """Collects what is written and removes it at the end."""
    made: list[Path] = []
    try:
        yield made
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def _write(model: ir.Model, folder: Path, made: list[Path], embedded_limit_bytes: int) -> Path:
    from mimi_edge.export.graph_files import graph_proto

    proto = graph_proto(model)
    large = [tensor for tensor in proto.graph.initializer if len(tensor.raw_data) >= SMALL_BYTES]
    try:
        if sum(len(tensor.raw_data) for tensor in large) > embedded_limit_bytes:
            _move_out(large, folder, made)
        handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=SUFFIX, dir=folder)
        made.append(Path(name))
        with os.fdopen(handle, "wb") as opened:
            opened.write(proto.SerializeToString(deterministic=True))
    except OSError as error:
        if error.errno not in UNWRITABLE:
            error.filename = error.filename or str(folder)
            raise
        raise ConfigError(
            f"{folder} cannot be written ({error.strerror}). An engine is built from a graph that must lie beside its "
            "weights for the time of the build: make the folder writable, or copy it to where it is."
        ) from error
    return Path(name)


def _move_out(tensors: list[Any], folder: Path, made: list[Path]) -> None:
    """Moves the content of initializers to one file beside the graph."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.raw_data)
    path = _new_file(folder, digest.hexdigest()[:16])
    made.append(path)
    with path.open("wb") as opened:
        for tensor in tensors:
            _point(tensor, path.name, opened.tell(), len(tensor.raw_data))
            opened.write(tensor.raw_data)
            tensor.ClearField("raw_data")


def _new_file(folder: Path, stem: str) -> Path:
    """An empty file with a name that follows from its content, so that a graph's bytes do too.

    Only where another process has just the same at hand is a number added.
    """
    number = 0
    while True:
        path = folder / f"{PREFIX}{stem}.{number}{SUFFIX}"
        try:
            path.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return path


def _point(tensor: Any, location: str, offset: int, length: int) -> None:
    """Makes an initializer's message one that lies in another file."""
    tensor.data_location = tensor.EXTERNAL
    del tensor.external_data[:]
    for key, text in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, text
