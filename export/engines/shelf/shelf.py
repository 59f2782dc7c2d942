"""Where a package's engines lie, and what makes one of them trustworthy.

    PACKAGE/engines/manifest.json  <name>.engine  <name>.json  ...

An engine is code. It is handed to TensorRT only if its bytes hash to what the shelf's manifest says, and they are read
once: what was hashed is what is loaded.

A new engine is staged under hidden names, announced in the manifest, and then renamed. Whoever reads the shelf after an
interruption there takes the staged file; whoever writes next finishes the renaming.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from mimi_edge.choices import Precision, Strategy
from mimi_edge.documents import DocumentKind, parse_document, read_bytes
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.engines.shelf.sidecars import (
    LARGEST_ENGINE_BYTES,
    LARGEST_FILE_BYTES,
    Sidecar,
    parse_sidecar,
    sidecar_bytes,
    sidecar_name,
)
from mimi_edge.export.external_data import is_plain_name
from mimi_edge.export.locks import locked
from mimi_edge.export.manifest import DIGEST, MANIFEST, FileEntry, Manifest, file_entry, read_manifest, staged_name
from mimi_edge.export.staging import settle_file
from mimi_edge.files import name_unwritten, sync, write_whole
from mimi_edge.texts import excerpt, json_text

SCHEMA = 1
FOLDER = "engines"
SUFFIX = ".engine"
PART = ".part"
ABANDONED_SECONDS = 3600

Found = TypeVar("Found")
REBUILD = "Build it again: mimi-edge export --format trt PACKAGE"
KIND = DocumentKind("a list of engines", LARGEST_FILE_BYTES, mend=REBUILD, newest=SCHEMA, open=True)


@dataclass(frozen=True)
class ShelfEntry:
    """One engine in a shelf's manifest: its two files and what they must be."""

    engine: str
    sidecar: str
    files: Mapping[str, FileEntry]


@dataclass(frozen=True)
class Shelf:
    """What a shelf's manifest says.

    Attributes:
        engines: by name.
        pending: files of which a new version waits under `staged_name`.
    """

    engines: Mapping[str, ShelfEntry]
    pending: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShelvedEngine:
    """An engine on a shelf; its own bytes have not been looked at.

    Attributes:
        name: like `shared.fp16`.
        path: of the engine.
        sidecar: what is known about it.
        stale: why it no longer belongs to what is in the package, None where it does.
    """

    name: str
    path: Path
    sidecar: Sidecar
    stale: str | None


def engine_name(strategy: Strategy, precision: Precision, task: str | None = None, *, mixed: bool = False) -> str:
    """What an engine is called on a shelf: `per-task.<task>.fp16`, `shared.fp16`, `shared-mixed.fp16`, `refit.fp16`."""
    parts = [strategy.value + ("-mixed" if mixed else ""), task, precision.value]
    return ".".join(part for part in parts if part)


def publish(package: Path, sidecar: Sidecar, write_plan: Callable[[Path], None]) -> ShelvedEngine:
    """Puts an engine on a package's shelf, in place of the one of the same name.

    Args:
        package: folder of the package.
        sidecar: what is known about the engine; its file's name, hash and size are checked.
        write_plan: writes the engine's bytes to a path.

    Raises:
        ArtifactError: the shelf is damaged, or what was written is not what the sidecar says.
        ConfigError: the engine's file has a name that no engine has.
        OSError: the disk is full. In all these cases the shelf is as it was.
    """
    name = _name_of(sidecar.engine)
    stale = stale_reason(package, sidecar)
    folder = _folder(package)
    folder.mkdir(exist_ok=True)
    with _beside(folder, sidecar.engine) as engine, _beside(folder, sidecar_name(sidecar.engine)) as description:
        write_plan(engine)
        written = file_entry(engine)
        if written != FileEntry(sidecar.sha256, sidecar.size_bytes):
            raise ArtifactError(
                f"{sidecar.engine} was to be {sidecar.size_bytes} bytes with sha256 {sidecar.sha256[:12]}; "
                f"{written.size_bytes} bytes with {written.sha256[:12]} were written. {REBUILD}"
            )
        description.write_bytes(sidecar_bytes(sidecar))
        files = {sidecar.engine: written, sidecar_name(sidecar.engine): file_entry(description)}
        for part in (engine, description):
            settle_file(part)
        with locked(folder):
            entry = ShelfEntry(sidecar.engine, sidecar_name(sidecar.engine), files)
            _commit(folder, name, entry, {sidecar.engine: engine, entry.sidecar: description})
    return ShelvedEngine(name, folder / sidecar.engine, sidecar, stale)


def read_shelf(package: Path) -> dict[str, ShelvedEngine]:
    """The engines of a package, by name; empty where it has none. The engines' own bytes are not read.

    Raises:
        ArtifactError: the manifest or a sidecar is missing, altered or of a newer schema.
    """
    folder = _folder(package)
    if not folder.exists():
        return {}

    def all_of(shelf: Shelf) -> dict[str, ShelvedEngine]:
        manifest = read_manifest(package)
        return {name: _shelved(package, manifest, shelf, name) for name in sorted(shelf.engines)}

    return _retried(folder, all_of)


def open_engine(path: Path, *, trust: bool = False) -> tuple[bytes, Sidecar]:
    """The bytes of an engine that may be loaded, and what is known about it.

    Args:
        path: of the engine.
        trust: take an engine that is on no shelf, if its sidecar lies beside it. It does not help against an engine
            that is on a shelf and was altered.

    Raises:
        ArtifactError: it is missing, altered, on no shelf, or no regular file.
    """
    if (path.parent / MANIFEST).is_file():
        opened = _retried(path.parent, lambda shelf: _listed_engine(path, shelf))
        if opened is not None:
            return opened
    if not trust:
        raise ArtifactError(
            f"{path} is on no package's shelf, so nobody vouches for it, and an engine is code. If you know where it "
            "comes from, use --trust; else build it here: mimi-edge export --format trt PACKAGE"
        )
    return _foreign_engine(path)


def stale_reason(package: Path, sidecar: Sidecar) -> str | None:
    """Why an engine no longer belongs to what is in the package; None where it does.

    Only an engine per task holds the task's weights. The others get them when they run, and say then whether they fit.

    Raises:
        ArtifactError: the package has no manifest, or a damaged one.
    """
    return _stale(read_manifest(package), sidecar)


def _stale(manifest: Manifest, sidecar: Sidecar) -> str | None:
    if sidecar.backbone_sha256 != manifest.backbone.sha256:
        return f"{sidecar.engine} is of another backbone. {REBUILD}"
    if sidecar.strategy is not Strategy.PER_TASK:
        return None
    changed = [name for name, sha256 in sidecar.tasks.items() if _task_sha256(manifest, name) != sha256]
    if changed:
        return f"{sidecar.engine} was built before the task {', '.join(changed)} changed. {REBUILD}"
    return None


def _task_sha256(manifest: Manifest, name: str) -> str | None:
    entry = manifest.tasks.get(name)
    return None if entry is None else manifest.files[entry.task].sha256


def _folder(package: Path) -> Path:
    """The shelf, which must lie in the package itself.

    Raises:
        ArtifactError: it is a link to somewhere else.
    """
    folder = package / FOLDER
    if folder.is_symlink():
        raise ArtifactError(f"{folder} is a link; engines lie in the package itself. Remove it. {REBUILD}")
    return folder


# Writing.


def _name_of(engine: str) -> str:
    name = engine.removesuffix(SUFFIX)
    if not is_plain_name(engine) or engine == name or not name or name.startswith(".") or name == "manifest":
        raise ConfigError(f"An engine's file cannot be called {engine!r}; expected a name like shared.fp16{SUFFIX}.")
    return name


@contextmanager
def _beside(folder: Path, name: str) -> Iterator[Path]:
    """A new hidden file for a file's new content; what is left of it at the end is removed."""
    handle, path = tempfile.mkstemp(prefix=f".{name}.", suffix=PART, dir=folder)
    os.close(handle)
    try:
        yield Path(path)
    except OSError as error:
        name_unwritten(error, folder / name)
        raise
    finally:
        Path(path).unlink(missing_ok=True)


def _commit(folder: Path, name: str, entry: ShelfEntry, parts: Mapping[str, Path]) -> None:
    """Makes files that are whole and on disk the shelf's engine of this name."""
    shelf = _finished(folder, _read(folder))
    for file, part in parts.items():
        part.replace(folder / staged_name(file))
    sync(folder)
    announced = Shelf({**shelf.engines, name: entry}, tuple(parts))
    _write(folder, announced)
    _finished(folder, announced)


def _finished(folder: Path, shelf: Shelf) -> Shelf:
    """Renames what waits, and forgets staged files that nobody announced."""
    for name in shelf.pending:
        with suppress(FileNotFoundError):
            (folder / staged_name(name)).replace(folder / name)
    for left in (*folder.glob(staged_name("*")), *filter(_is_abandoned, folder.glob(f".*{PART}"))):
        left.unlink(missing_ok=True)
    if not shelf.pending:
        return shelf
    sync(folder)
    settled = replace(shelf, pending=())
    _write(folder, settled)
    return settled


def _is_abandoned(part: Path) -> bool:
    """Whether a killed process left it; others may still be writing theirs."""
    with suppress(OSError):
        return time.time() - part.stat().st_mtime > ABANDONED_SECONDS
    return False


def _write(folder: Path, shelf: Shelf) -> None:
    pending = {"pending": sorted(shelf.pending)} if shelf.pending else {}
    engines = {name: asdict(one) for name, one in shelf.engines.items()}
    text = json_text({"schema": SCHEMA, "engines": engines, **pending}, sort_keys=True)
    write_whole(folder / MANIFEST, (text + "\n").encode())


# Reading.


def _read(folder: Path) -> Shelf:
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return Shelf({})
    shelf = parse_document(_read_whole(path, LARGEST_FILE_BYTES), path, KIND, Shelf)
    if wrong := list(_wrong(shelf)):
        raise ArtifactError(f"{path} lists what no shelf holds: {', '.join(wrong[:5])}. {REBUILD}")
    return shelf


def _wrong(shelf: Shelf) -> Iterator[str]:
    """Names come from a file, so they may not lead anywhere else."""
    for name, entry in shelf.engines.items():
        if entry.engine != name + SUFFIX or entry.sidecar != sidecar_name(entry.engine) or not is_plain_name(name):
            yield f"{excerpt(name)} ({excerpt(entry.engine)}, {excerpt(entry.sidecar)})"
        if set(entry.files) != {entry.engine, entry.sidecar}:
            yield f"files of {excerpt(name)}"
        for file, known in entry.files.items():
            if not DIGEST.fullmatch(known.sha256) or not 0 < known.size_bytes <= LARGEST_ENGINE_BYTES:
                yield f"{excerpt(file)} of {known.size_bytes} bytes, sha256 {known.sha256[:12]!r}"
    known_files = {file for entry in shelf.engines.values() for file in entry.files}
    yield from (excerpt(name) for name in shelf.pending if name not in known_files)


def _retried(folder: Path, look: Callable[[Shelf], Found]) -> Found:
    """Looks again where another process changed the shelf between our two looks."""
    while True:
        shelf = _read(folder)
        try:
            return look(shelf)
        except ArtifactError:
            if _read(folder) == shelf:
                raise


def _shelved(package: Path, manifest: Manifest, shelf: Shelf, name: str) -> ShelvedEngine:
    entry = shelf.engines[name]
    folder = package / FOLDER
    sidecar = _sidecar(folder, shelf, entry)
    if not any(os.path.lexists(path) for path in _places(folder, shelf, entry.engine)):
        raise ArtifactError(f"{folder / entry.engine} is missing. {REBUILD}")
    return ShelvedEngine(name, folder / entry.engine, sidecar, _stale(manifest, sidecar))


def _sidecar(folder: Path, shelf: Shelf, entry: ShelfEntry) -> Sidecar:
    path = folder / entry.sidecar
    sidecar = parse_sidecar(_verified(folder, shelf, entry, entry.sidecar), path)
    known = entry.files[entry.engine]
    if (sidecar.engine, sidecar.sha256, sidecar.size_bytes) != (entry.engine, known.sha256, known.size_bytes):
        raise ArtifactError(f"{path} describes another engine than {entry.engine}. {REBUILD}")
    return sidecar


def _listed_engine(path: Path, shelf: Shelf) -> tuple[bytes, Sidecar] | None:
    """None where the shelf does not have it."""
    entry = shelf.engines.get(path.name.removesuffix(SUFFIX))
    if entry is None or entry.engine != path.name:
        return None
    sidecar = _sidecar(path.parent, shelf, entry)
    return _verified(path.parent, shelf, entry, entry.engine), sidecar


def _foreign_engine(path: Path) -> tuple[bytes, Sidecar]:
    beside = path.with_name(sidecar_name(path.name))
    sidecar = parse_sidecar(_read_whole(beside, LARGEST_FILE_BYTES), beside)
    content = _read_whole(path, sidecar.size_bytes)
    if hashlib.sha256(content).hexdigest() != sidecar.sha256:
        raise ArtifactError(f"{path} is not the engine that {beside.name} describes (its sha256 differs). {REBUILD}")
    return content, sidecar


def _verified(folder: Path, shelf: Shelf, entry: ShelfEntry, name: str) -> bytes:
    """The bytes of a listed file, read once."""
    known = entry.files[name]
    content = _read_current(folder, shelf, name, known.size_bytes)
    if len(content) != known.size_bytes or hashlib.sha256(content).hexdigest() != known.sha256:
        raise ArtifactError(
            f"{folder / name} was altered: its size or sha256 is not what {MANIFEST} says, and --trust does not help "
            f"there. {REBUILD}"
        )
    return content


def _places(folder: Path, shelf: Shelf, name: str) -> tuple[Path, ...]:
    """Where a file may lie; another process may be renaming it from the first place to the second."""
    return (folder / staged_name(name), folder / name) if name in shelf.pending else (folder / name,)


def _read_current(folder: Path, shelf: Shelf, name: str, largest_bytes: int) -> bytes:
    *staged, final = _places(folder, shelf, name)
    for path in staged:
        with suppress(_MissingError):
            return _read_whole(path, largest_bytes)
    return _read_whole(final, largest_bytes)


class _MissingError(ArtifactError):
    """There is no such file."""


def _read_whole(path: Path, largest_bytes: int) -> bytes:
    """The bytes of a regular file that is no link and not larger than expected.

    Raises:
        ArtifactError: it is something else, or cannot be read.
    """
    try:
        return read_bytes(path, largest_bytes, follow_links=False)
    except FileNotFoundError as error:
        raise _MissingError(f"Cannot read {path} ({error.strerror}). {REBUILD}") from error
    except OSError as error:
        said = f"{path} was altered: " if error.errno == errno.EFBIG else f"Cannot read {path}: "
        raise ArtifactError(f"{said}{error.strerror}. {REBUILD}") from error
