"""Archives made by hand: as `pack` would make them of any manifest, however wrong, and as tar makes them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_package import IDENTITY, make_package, make_task

from mimi_edge.errors import ArtifactError
from mimi_edge.export.archives.contents import SUMS
from mimi_edge.export.archives.install import install_from
from mimi_edge.export.archives.tar import END, member_header, padding
from mimi_edge.export.archives.verify import verify
from mimi_edge.export.open_packages import Package
from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.task import BackboneIdentity

MANIFEST = "manifest.json"


def sample_package(folder: Path, tasks: Mapping[str, tuple[int, int, int]] | None = None) -> Package:
    """A package of the tasks a and b, or of those, in a folder that is made for it."""
    folder.mkdir()
    return make_package(folder, tasks or {"a": (2, 0, 1), "b": (1, 1, 1)})


def write_version(path: Path, name: str, neurons: tuple[int, int, int], backbone: BackboneIdentity = IDENTITY) -> Path:
    """A task file, of another content for other neurons."""
    path.parent.mkdir(parents=True, exist_ok=True)
    task = make_task(name, neurons)
    write_task(replace(task, header=replace(task.header, backbone=backbone)), path)
    return path


def content(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, by path; a link is what it points to."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(archive: Path) -> dict[str, bytes]:
    """What plain tar finds in an archive, in its order."""
    with tarfile.open(archive) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}


def forged(
    archive: Path,
    out: Path,
    *,
    spoil: Callable[[dict[str, Any]], object] = lambda _document: None,
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """An archive in which all hashes, sizes and headers agree with a manifest that was changed.

    Args:
        archive: to begin with.
        out: to write.
        spoil: changes the manifest; comes after what follows from `files`.
        files: members of other content, or more members.
    """
    members = {name: data for name, data in unpacked(archive).items() if name not in {MANIFEST, SUMS}}
    document = json.loads(unpacked(archive)[MANIFEST])
    for name, data in (files or {}).items():
        members[name] = data
        document["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    spoil(document)
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
    return written(out, text, members)


def written(out: Path, manifest: bytes, members: Mapping[str, bytes]) -> Path:
    """An archive of exactly this manifest and these members."""
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members.items())
    first = f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n"
    parts = [(MANIFEST, manifest), (SUMS, (first + sums).encode("utf-8", "replace")), *members.items()]
    out.write_bytes(b"".join(member_header(name, len(data)) + data + padding(len(data)) for name, data in parts) + END)
    return out


def tarred(out: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    """What Python's tar makes of these members."""
    with tarfile.open(out, mode) as opened:
        for info, data in members:
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    return out


def assert_refused(archive: Path, place: Path) -> str:
    """It is neither verified nor installed, into a new package or one that exists, and nothing is written anywhere.

    Args:
        archive: that is wrong.
        place: folder with the package `package`, and nowhere else to write.

    Returns:
        What was said.
    """
    before = content(place)
    verdict = verify(archive)
    assert verdict.faults
    for package in (place / "package", place / "new"):
        with pytest.raises(ArtifactError):
            install_from(archive, package)
    assert content(place) == before
    assert not (place / "new").exists()
    return "\n".join(verdict.faults)
