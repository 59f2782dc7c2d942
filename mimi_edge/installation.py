"""How this copy of mimi-edge was installed, and on what: what a line that installs something has to say here."""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distributions, requires
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NAME = "mimi-edge"
PACKAGE = Path(__file__).resolve().parent
TEGRA_RELEASE = "etc/nv_tegra_release"
DEVICE_TREE = "proc/device-tree/compatible"
UNSAFE = frozenset('"$`\\!\n')
"""What means something to a shell even between double quotes."""


@dataclass(frozen=True)
class Origin:
    """Where this copy came from; nothing of it where it came from an index.

    Attributes:
        place: folder of a checkout, or wheel, that is still there.
        editable: whether the checkout itself is what runs.
        url: of an archive or a repository elsewhere.
        gone: whether the file or folder that it came from is no longer there.
    """

    place: Path | None = None
    editable: bool = False
    url: str | None = None
    gone: bool = False


def origin(found: Iterable[Distribution] | None = None, package: Path = PACKAGE) -> Origin:
    """Reads off what pip noted when it installed this copy.

    Args:
        found: distributions of our name; those that Python finds.
        package: folder of `mimi_edge/`; one that lies in a checkout is one of it, whatever pip noted.
    """
    known = list(distributions(name=NAME) if found is None else found)
    notes = [(one, _noted(json.loads(note))) for one in known if (note := one.read_text("direct_url.json")) is not None]
    for one, source in notes:
        if package in (_place_of(one), source.place and source.place / package.name):
            return source
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "constraints.txt").is_file():
        return Origin(checkout, editable=True)
    if any(_place_of(one) == package for one in known):
        return Origin()
    return notes[0][1] if notes else Origin()


def _place_of(one: Distribution) -> Path:
    """Where a distribution has the package, if it is not an editable one."""
    return Path(str(one.locate_file(PACKAGE.name))).resolve()


def _noted(document: Mapping[str, Any]) -> Origin:
    """Of a `direct_url.json`, as PyPA's specification of recorded direct URLs has it."""
    from urllib.request import url2pathname  # brings much that --help does not need

    url = str(document.get("url", ""))
    parts = urlsplit(url)
    if parts.scheme != "file":
        vcs = document.get("vcs_info")
        if not isinstance(vcs, Mapping):
            return Origin(url=url)
        revision = vcs.get("requested_revision") or vcs.get("commit_id")
        return Origin(url=f"{vcs.get('vcs', 'git')}+{url}" + (f"@{revision}" if revision else ""))
    place = Path(url2pathname(parts.path))
    if not place.exists():
        return Origin(gone=True)
    folder = document.get("dir_info")
    return Origin(place, editable=isinstance(folder, Mapping) and bool(folder.get("editable")))


def ours(part: str | None, source: Origin | None = None) -> str:
    """What pip is told to install for a part of mimi-edge, quoted for a shell; None is the core.

    Where the file that this copy came from is gone, the libraries of the part themselves; the core cannot be told then.
    """
    source = origin() if source is None else source
    extra = f"[{part}]" if part else ""
    if source.place is not None:
        return ("-e " if source.editable else "") + quoted(f"{source.place}{extra}")
    if source.url is not None:
        return quoted(f"{NAME}{extra} @ {source.url}")
    if source.gone and part and (libraries := list(_libraries(part))):
        return " ".join(quoted(library) for library in libraries)
    return quoted(f"{NAME}{extra}") if extra else NAME


def _libraries(part: str) -> Iterable[str]:
    """What a part needs, as our own metadata says."""
    try:
        needed = requires(NAME) or []
    except PackageNotFoundError:
        needed = []
    for one in needed:
        library, _, marker = one.partition(";")
        if marker.replace("'", '"').replace(" ", "") == f'extra=="{part}"':
            yield library.strip()


def pip_line(arguments: str) -> str:
    """A line for the pip of this environment, which is not always the one that the shell would find.

    Args:
        arguments: of pip, quoted for a shell.
    """
    if _is_on_path():
        return f"pip {arguments}"
    python = _bare(sys.executable)
    first = "" if find_spec("pip") is not None else f"{python} -m ensurepip && "
    return f"{first}{python} -m pip {arguments}"


def _is_on_path() -> bool:
    """Whether the shell's `pip` is that of the Python that runs here."""
    found = shutil.which("pip")
    return found is not None and Path(found).parent == Path(sys.executable).parent


def is_tegra(root: Path = Path("/")) -> bool:
    """Whether this is a Jetson, where the public index has no wheels for the GPU; a container on one is, too."""
    if platform.machine() not in {"aarch64", "arm64"}:
        return False
    try:
        return (root / TEGRA_RELEASE).exists() or b"nvidia,tegra" in (root / DEVICE_TREE).read_bytes()
    except OSError:
        return False


def in_environment() -> bool:
    """Whether this Python is that of a virtual environment, whose libraries are its own."""
    return sys.prefix != sys.base_prefix


def hides_the_system(prefix: Path | None = None) -> bool:
    """Whether this is a virtual environment that does not see the system's libraries, such as JetPack's TensorRT."""
    try:
        settings = ((prefix or Path(sys.prefix)) / "pyvenv.cfg").read_text("utf-8", "replace")
    except OSError:
        return False
    lines = [line.partition("=") for line in settings.lower().splitlines()]
    return any(name.strip() == "include-system-site-packages" and value.strip() == "false" for name, _, value in lines)


def seeing_line() -> str:
    """The line that lets this virtual environment see the system's libraries, and keeps what is in it."""
    return f"python3 -m venv --system-site-packages {_bare(sys.prefix)}"


def quoted(text: str) -> str:
    """The text as one word for a shell, in double quotes where they will do."""
    return shlex.quote(text) if UNSAFE & set(text) else f'"{text}"'


def _bare(text: str) -> str:
    """The text as one word for a shell, without quotes where it needs none."""
    return shlex.quote(text)
