"""Which images a command line names: files, folders, quoted patterns, and lists in files or from stdin."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mimi_edge.cli.output import say
from mimi_edge.errors import ConfigError
from mimi_edge.images.find_files import image_files, left_out_note, listed
from mimi_edge.images.read_image import shown

STDIN = "-"
LIST_MARK = "@"
LARGEST_LIST_BYTES = 1_000_000_000
WAYS = "image files, folders, quoted patterns such as 'photos/**/*.jpg', @list.txt, or - for a list on stdin"
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_PATTERN = re.compile(r"[*?[]")
_SURE_PATTERN = re.compile(r"[*?]")
"""Brackets alone are more often part of a name."""


def named_images(names: Sequence[str], lists: Sequence[str] = ()) -> list[Path]:
    """The images that arguments name, in their order; those of a folder are sorted.

    A file that is named is an image whatever it is called; of a folder those are that `train` would take. What is left
    out of folders is said on stderr.

    Args:
        names: files, folders, patterns in the shell's manner (`**` is any number of folders), `@list`, or `-`.
        lists: files with a path a line, or with a zero byte after each; `-` is stdin.

    Raises:
        ConfigError: there are none, a list cannot be read, or a name is a URL.
    """
    images = [image for name in names for image in _named(name)]
    images += [image for name in lists for image in _listed(name)]
    if not images:
        what = ", ".join([*names, *lists])
        raise ConfigError(f"There are no images in {what}." if what else f"Which images? Give {WAYS}.")
    return images


def is_url(name: str) -> bool:
    """Whether a name is an address on a network."""
    return _URL.match(name) is not None


def names_images(name: str) -> bool:
    """Whether an argument names images: a list, a pattern, or something there that is a file or a folder of images."""
    if name == STDIN or name.startswith(LIST_MARK) or is_url(name):
        return True
    path = Path(name)
    if path.is_dir():
        return bool(image_files(path).images)
    return path.is_file() or _PATTERN.search(name) is not None


def _named(name: str) -> Iterator[Path]:
    path = Path(name)
    if name == STDIN:
        yield from _listed(name)
    elif name.startswith(LIST_MARK) and not path.exists():
        yield from _listed(name.removeprefix(LIST_MARK))
    elif _PATTERN.search(name) and not path.exists() and not is_url(name):
        matches = sorted(glob.iglob(name, recursive=True))  # noqa: PTH207
        if not matches and _SURE_PATTERN.search(name):
            raise ConfigError(f"Nothing here is called like {shown(name)}. Check the pattern and the folder.")
        # In the order of names, and each match as if a shell had put it there.
        for match in matches or [name]:
            yield from _file_or_folder(match)
    else:
        yield from _file_or_folder(name)


def _file_or_folder(name: str) -> Iterator[Path]:
    if is_url(name):
        raise ConfigError(f"{shown(name)} is a URL. Fetch it first, with curl -O for instance, and give the file.")
    path = Path(name)
    if not path.is_dir():
        yield path
        return
    found = image_files(path)
    for note in _notes(path, found.left_out, found.unlistable, found.links):
        say(note)
    yield from found.images.values()


def _notes(folder: Path, left_out: Mapping[str, int], unlistable: Sequence[str], links: Sequence[str]) -> Iterator[str]:
    if note := left_out_note(left_out):
        yield f"{shown(folder)}: {note}"
    if unlistable:
        yield f"{shown(folder)}: these folders cannot be opened: {listed(unlistable)}."
    if links:
        yield f"{shown(folder)}: linked folders are not followed: {listed(links)}."


def _listed(name: str) -> Iterator[Path]:
    """The entries of a list; relative ones are relative to where the command runs, as for xargs."""
    text = os.fsdecode(_content(name))
    entries = text.split("\0") if "\0" in text else text.splitlines()
    for entry in entries:
        if entry.strip():
            yield from _file_or_folder(entry)


def _content(name: str) -> bytes:
    try:
        if name == STDIN:
            content = sys.stdin.buffer.read(LARGEST_LIST_BYTES + 1)
        else:
            with Path(name).open("rb") as opened:
                content = opened.read(LARGEST_LIST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"Cannot read the list {shown(name)}: {error.strerror}. Check the path.") from error
    if len(content) > LARGEST_LIST_BYTES:
        raise ConfigError(f"{shown(name)} is too large for a list of images. Split it.")
    return content.removeprefix(b"\xef\xbb\xbf")
