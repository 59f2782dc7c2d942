"""The text in an archive for whoever opens it on a device."""

from __future__ import annotations

from collections.abc import Sequence

from mimi_edge.images.preprocessing import Preprocessing, resizing_in_words
from mimi_edge.tasks.task import BackboneIdentity, Task

_FULL = """\
This archive holds a network (the backbone) and tasks for it. On the device:

    pip install "mimi_edge-VERSION-py3-none-any.whl[cpu]"    # once; see the README of mimi-edge
    mimi-edge verify ARCHIVE
    mimi-edge install-task ARCHIVE package                   # makes the folder package, or adds to it
    mimi-edge predict package IMAGE.jpg

ARCHIVE is the name of this .tar file. Where mimi-edge is not at hand, this does the same without the checks of graphs:

    mkdir package && tar -xf ARCHIVE -C package && cd package && sha256sum -c SHA256SUMS
"""
_TASKS = """\
This archive holds tasks for a device that has their network (the backbone) in a package already. On the device:

    mimi-edge verify ARCHIVE
    mimi-edge install-task ARCHIVE package                   # adds the tasks, or replaces those of the same name
    mimi-edge predict package IMAGE.jpg

ARCHIVE is the name of this .tar file, package the folder with the package.
"""
_REST = """\
To go back to the tasks before the last installation: mimi-edge install-task --rollback package

The hashes in this archive show damage. They do not show who made it: compare the sha256 that mimi-edge pack printed, if
it came to you by another way, with: mimi-edge install-task --sha256 HEX ARCHIVE package

Engines for a GPU are not in here. They are built on the device that runs them.
"""


def readme(backbone: BackboneIdentity, tasks: Sequence[Task], *, full: bool) -> bytes:
    """The text for an archive; the same archive gives the same text.

    Args:
        backbone: the network.
        tasks: that are in the archive.
        full: whether the backbone is in it, too.
    """
    title = f"mimi-edge archive for {backbone.name}, content sha256 {backbone.sha256}"
    what = _FULL if full else _TASKS
    parts = [title, what, _REST, "Tasks:", *(_described(task) for task in tasks)]
    return ("\n".join(map(_harmless, parts)) + "\n").encode()


def _described(task: Task) -> str:
    header = task.header
    accuracy = ", ".join(f"{split} {value.accuracy:.2%} of {value.images}" for split, value in header.accuracy.items())
    return (
        f"\n  {header.name.translate({10: ' '})}\n"
        f"    classes:   {len(header.classes)}\n"
        f"    accuracy:  {accuracy or 'not known'}\n"
        f"    images:    {preprocessing_in_words(header.preprocessing)}"
    )


def preprocessing_in_words(preprocessing: Preprocessing) -> str:
    """What happens to an image before the network sees it."""
    return (
        f"RGB, resized {resizing_in_words(preprocessing)} px ({preprocessing.interpolation}), the middle "
        f"{preprocessing.size.in_words}, divided by 255, mean {list(preprocessing.mean)} taken away, "
        f"divided by {list(preprocessing.std)}"
    )


def _harmless(text: str) -> str:
    """Names come from files; none of their characters may steer a terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
