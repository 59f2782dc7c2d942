"""Asks processes of their own what they find, so that whatever a broken library does is an answer."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any

from mimi_edge.events import Advance, Listener, silent
from mimi_edge.profiles.doctor.steps import Group, Step
from mimi_edge.texts import json_text

STAGE = "looking"
LIMIT_S = 60.0
"""Of one step. Loading torch for the first time takes half a minute from the memory card of a small board."""
AT_ONCE = 2
GLANCE_S = 0.25
PATIENCE_S = 2.0
"""How long a process that was ended, or ends, may take to do so."""
RAISED, IMPORT, CRASHED, ENDED, HUNG = "error", "import", "crashed", "ended", "hung"

START = "import sys; sys.path[:] = sys.argv[1:]; from mimi_edge.profiles.doctor.child import main; main()"
"""It finds modules exactly where this process does."""
SETTINGS = {"MPLBACKEND": "agg", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Failure:
    """Why a step did not come to its end.

    Attributes:
        kind: `error` and `import`, an exception; `crashed`, a signal ended the process; `ended`, something else did;
            `hung`, it took longer than it may.
        text: the exception, or how the process ended.
        said: the last line that was printed.
    """

    kind: str
    text: str
    said: str = ""


@dataclass(frozen=True)
class Answer:
    """What a step found.

    Attributes:
        facts: by name; with a failure, those found before it.
        failure: None where the step came to its end.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None


Answers = Mapping[str, Answer]
"""By the name of the step."""


def ask_all(groups: Sequence[Group], *, limit_s: float = LIMIT_S, listener: Listener = silent) -> dict[str, Answer]:
    """Takes all steps, a few processes at a time; never fails because of what they find.

    Args:
        groups: of steps.
        limit_s: of each step.
        listener: hears how far it is.
    """
    answers: dict[str, Answer] = {}
    listener(Advance(STAGE, 0, len(groups)))
    with _processes() as processes, ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            waiting = [pool.submit(_ask_group, group, limit_s, processes) for group in groups]
            for done, finished in enumerate(as_completed(waiting), 1):
                answers |= finished.result()
                listener(Advance(STAGE, done, len(groups)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.end_all()
            raise
    return answers


def ask(*steps: Step, limit_s: float = LIMIT_S) -> dict[str, Answer]:
    """Takes some steps that share a process."""
    return ask_all([steps], limit_s=limit_s)


@dataclass
class _Processes:
    """Those that run now. Each leads a group of its own, so that what it starts ends with it."""

    running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    closed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> subprocess.Popen[bytes]:
        """A new one, waiting for its steps."""
        command = [sys.executable, "-c", START, *(path for path in sys.path if isinstance(path, str))]
        pipe = subprocess.PIPE
        with self.lock:
            if self.closed:
                raise InterruptedError
            process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=pipe, env=os.environ | SETTINGS, start_new_session=True
            )
            self.running.add(process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Ends one and all it has started, whatever it is doing."""
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        with suppress(subprocess.TimeoutExpired):  # one that waits for a dead file system cannot even be killed
            process.wait(PATIENCE_S)
        with self.lock:
            self.running.discard(process)

    def end_all(self) -> None:
        """Ends those that run, and lets none start."""
        with self.lock:
            self.closed, running = True, list(self.running)
        for process in running:
            self.end(process)


@contextmanager
def _processes() -> Iterator[_Processes]:
    processes = _Processes()
    try:
        yield processes
    finally:
        processes.end_all()


def _ask_group(group: Group, limit_s: float, processes: _Processes) -> dict[str, Answer]:
    """Goes on behind a step that ended its process."""
    answers: dict[str, Answer] = {}
    while left := group[len(answers) :]:
        answers |= _ask_process(left, limit_s, processes)
    return answers


def _ask_process(steps: Sequence[Step], limit_s: float, processes: _Processes) -> dict[str, Answer]:
    """The answers of the first steps, at least of one."""
    try:
        process = processes.start()
    except OSError as error:
        return {steps[0].name: Answer(failure=Failure(RAISED, f"No process can be started: {error}"))}
    try:
        heard = _Heard(process, limit_s)
        _tell(process, steps, limit_s)
        return _collected(steps, heard)
    finally:
        processes.end(process)


def _tell(process: subprocess.Popen[bytes], steps: Sequence[Step], limit_s: float) -> None:
    assert process.stdin is not None  # noqa: S101  (it is a pipe)
    with suppress(OSError):  # it has ended already; how, is seen later
        asked = {"limit_s": limit_s, "steps": [step.target for step in steps]}
        process.stdin.write(json_text(asked, indent=None).encode())
        process.stdin.close()


class _Heard:
    """What a process says, read by threads: a pipe that nobody empties would stop it."""

    def __init__(self, process: subprocess.Popen[bytes], limit_s: float) -> None:
        self.process, self.limit_s = process, limit_s
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._talk: deque[bytes] = deque(maxlen=20)
        for pipe, take in ((process.stdout, self._lines.put), (process.stderr, self._talk.append)):
            threading.Thread(target=_drain, args=(pipe, take), daemon=True).start()

    def next(self, until: float) -> dict[str, Any] | Failure:
        """The next message, or why there is none before `until` on the monotonic clock."""
        while (left := until - time.monotonic()) > 0:
            ended = self.process.poll() is not None
            try:
                line = self._lines.get(timeout=min(left, GLANCE_S))
            except queue.Empty:
                if ended:
                    return self._end()
                continue
            if (message := _message(line)) is not None:
                return message
        return Failure(HUNG, f"it takes longer than {self.limit_s:g} s", self._last_words())

    def _end(self) -> Failure:
        code = self.process.returncode
        if code >= 0:
            return Failure(ENDED, f"it ends the process, with exit code {code}", self._last_words())
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return Failure(CRASHED, f"it crashes the process ({name})", self._last_words())

    def _last_words(self) -> str:
        lines = [line.decode(errors="replace").strip() for line in list(self._talk)]
        return next((line[:500] for line in reversed(lines) if line), "")


def _drain(pipe: IO[bytes], take: Any) -> None:
    with suppress(OSError, ValueError):
        while line := pipe.readline(65536):
            take(line)


def _message(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _collected(steps: Sequence[Step], heard: _Heard) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    for step in steps:
        answers[step.name] = answer = _answer(heard)
        if answer.failure is not None and answer.failure.kind not in (RAISED, IMPORT):
            break
    return answers


def _answer(heard: _Heard) -> Answer:
    facts: dict[str, Any] = {}
    until = time.monotonic() + heard.limit_s
    while True:
        message = heard.next(until)
        if isinstance(message, Failure):
            return Answer(facts, message)
        if "facts" in message:
            facts |= message["facts"]
        elif "failed" in message:
            return Answer(facts, Failure(message["kind"], message["error"]))
        elif "done" in message:
            return Answer(facts)
