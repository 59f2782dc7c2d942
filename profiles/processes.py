"""Processes that each have one artefact open: started, asked one after the other, and ended whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from mimi_edge.errors import MimiEdgeError
from mimi_edge.profiles.reports import Failure
from mimi_edge.texts import json_text

if TYPE_CHECKING:
    from typing_extensions import Self

# Not `-m`: that would let files in the working directory stand in for modules.
COMMAND = (
    sys.executable,
    "-c",
    "import sys; sys.path = [p for p in sys.path if p]; from mimi_edge.profiles.worker import main; main()",
)
PATIENCE_S = 600.0
"""Seconds of silence after which a process is taken to hang; some runtimes build engines when they open a graph."""
ENDING_S = 5.0
LAST_WORDS = 500
LAST_LINES = 6
CHUNK = 1 << 16


class WorkerError(MimiEdgeError):
    """A process did not answer as it should.

    Attributes:
        message: why, without the stage.
        status: exit code of the process, negative for a signal; None where it had to be ended, or only refused.
    """

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        self.message = message
        self.status = exit_code
        super().__init__(message)


@dataclass
class WorkerProcess:
    """A process that answers one request at a time. Made by `start`."""

    process: subprocess.Popen[bytes]
    stderr: IO[bytes]
    patience_s: float
    _unread: bytes = b""

    def ask(self, request: Mapping[str, Any], payload: bytes = b"") -> dict[str, Any]:
        """Sends a request and waits for the answer.

        Raises:
            WorkerError: it failed, died or kept silent for too long; the process is of no use any more.
        """
        assert self.process.stdin is not None  # noqa: S101  (started with pipes)
        try:
            self.process.stdin.write(json_text(request, indent=None).encode() + b"\n" + payload)
            self.process.stdin.flush()
        except OSError:
            raise self._died() from None
        answer: dict[str, Any] = json.loads(self._line())
        if "error" in answer:
            raise WorkerError(str(answer["error"]))
        return answer

    def _line(self) -> bytes:
        assert self.process.stdout is not None  # noqa: S101  (started with pipes)
        descriptor = self.process.stdout.fileno()
        deadline = time.monotonic() + self.patience_s
        while b"\n" not in self._unread:
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.kill()
                raise WorkerError(_said(f"no answer for {self.patience_s:g} s", self._last_words()))
            if not (chunk := os.read(descriptor, CHUNK)):
                raise self._died()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _died(self) -> WorkerError:
        try:
            code = self.process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return WorkerError(_said("it closed its pipe", self._last_words()))
        return WorkerError(_said(_ending(code), self._last_words()), code)

    def _last_words(self) -> str:
        """The last lines that it wrote to stderr."""
        size = self.stderr.seek(0, os.SEEK_END)
        self.stderr.seek(max(0, size - LAST_WORDS))
        lines = self.stderr.read().decode(errors="replace").splitlines()
        return "\n".join([line for line in lines if line.strip()][-LAST_LINES:])

    def kill(self) -> None:
        """Ends it at once, and waits until it is gone."""
        self.process.kill()
        self.process.wait()

    def close(self, *, at_once: bool = False) -> None:
        """Ends it; kindly, unless it is in the middle of something.

        Args:
            at_once: do not wait for it to end by itself.
        """
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if not at_once:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(ENDING_S)
        self.kill()
        self.stderr.close()


def start(command: Sequence[str] = COMMAND, *, patience_s: float = PATIENCE_S) -> WorkerProcess:
    """Starts a process that answers requests as `mimi_edge.profiles.worker` does."""
    stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
    process = subprocess.Popen(list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
    return WorkerProcess(process, stderr, patience_s)


@dataclass
class Crew:
    """Processes by name, and how those that failed did. A context manager: all end with it.

    Attributes:
        patience_s: seconds of silence after which a process is given up.
        failures: by name.
    """

    patience_s: float = PATIENCE_S
    failures: dict[str, Failure] = field(default_factory=dict)
    _alive: dict[str, WorkerProcess] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of the processes that go on, in the order in which they were added."""
        return list(self._alive)

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes that go on."""
        return [one.process.pid for one in self._alive.values()]

    def add(self, name: str, command: Sequence[str] = COMMAND) -> None:
        """Starts one more."""
        self._alive[name] = start(command, patience_s=self.patience_s)

    def ask(self, name: str, stage: str, request: Mapping[str, Any], payload: bytes = b"") -> dict[str, Any] | None:
        """Asks one of them; None where it fails, or has failed before.

        Args:
            name: of the artefact.
            stage: what to call this in a failure.
            request: see `mimi_edge.profiles.worker`.
            payload: raw bytes that belong to it.
        """
        if name not in self._alive:
            return None
        try:
            return self._alive[name].ask(request, payload)
        except WorkerError as error:
            self.failures[name] = Failure(stage, error.message, error.status)
            self._alive.pop(name).close(at_once=True)
            return None

    def dismiss(self, name: str) -> None:
        """Ends one of them, whether or not it has failed."""
        if (process := self._alive.pop(name, None)) is not None:
            process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None) -> None:
        while self._alive:
            self._alive.popitem()[1].close(at_once=kind is not None)


def _said(what: str, last_words: str) -> str:
    return f"{what}; its last words:\n{last_words}" if last_words else what


def _ending(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (the system ends processes so when memory runs out)" if -code == signal.SIGKILL else ""
    return f"its process was ended by {name}{hint}"
