"""A process that puts one of two versions of a package's tasks in place of the other, again and again.

python swapping.py PACKAGE FIRST SECOND      each line on stdin is a swap; `done` is answered when it is through
"""

from __future__ import annotations

import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Swapper:
    """Asks the process; one swap at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self._waiting = process, False
        self._ready = selectors.DefaultSelector()
        self._ready.register(process.stdout, selectors.EVENT_READ)

    def swap(self, patience_s: float) -> bool:
        """Begins a swap unless one is under way; whether it was through in time."""
        if not self._waiting:
            self._process.stdin.write("swap\n")
            self._process.stdin.flush()
            self._waiting = True
        return self.wait(patience_s)

    def wait(self, patience_s: float) -> bool:
        """Whether the swap that is under way, if any, is through in time."""
        if self._waiting and self._ready.select(patience_s):
            answer = self._process.stdout.readline()
            assert answer == "done\n", answer + self._process.stderr.read()
            self._waiting = False
        return not self._waiting


@contextmanager
def swapper(package: Path, first: Path, second: Path) -> Iterator[Swapper]:
    """A process that swaps until the block ends; the package has the first archive's tasks."""
    command = [sys.executable, __file__, *map(str, (package, first, second))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        asked = Swapper(process)
        try:
            assert asked.swap(60)
            assert asked.swap(60)
            yield asked
        finally:
            process.kill()


def main(package: Path, versions: list[Path]) -> None:
    from mimi_edge.export.archives.install import install_from

    at = 0
    for _ in sys.stdin:
        at = 1 - at
        install_from(versions[at], package)
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
