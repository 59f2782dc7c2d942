"""Small files of a kernel, below a root that tests can put elsewhere. What cannot be read is None."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
KB = 1024


def text_of(path: Path) -> str | None:
    """Content without blanks and NULs at its ends.

    A sensor whose part of the chip is switched off exists and cannot be read, which is no fault.
    """
    try:
        return path.read_text(errors="replace").strip("\0 \t\n")
    except (OSError, ValueError):
        return None


def number_of(path: Path) -> int | None:
    """The whole number a file begins with."""
    words = (text_of(path) or "").split()
    try:
        return int(words[0]) if words else None
    except ValueError:
        return None


def meminfo_bytes(root: Path) -> dict[str, int]:
    """Entries of `/proc/meminfo` that are sizes, by name."""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", text_of(root / "proc/meminfo") or "", re.MULTILINE)
    return {name: int(count) * KB for name, count in found}


def below(root: Path, pattern: str) -> Iterator[Path]:
    """Paths below a root that fit a pattern, in order, `hwmon2` before `hwmon10`."""
    try:
        found = list(root.glob(pattern))
    except OSError:
        found = []
    yield from sorted(found, key=lambda path: [(len(part), part) for part in path.parts])
