"""Small pictures to learn, and two ways of running `mimi-edge`: in this process, and as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from mimi_edge.cli.app import app

CLASSES = ("[bold]red[red]", 'sch"ön 🙂', "plain")
"""Names that are hard on whoever prints them."""
SMALL = ("--backbone", "builtin", "--weights", "random", "--start-ratio", "8", "--epochs", "1", "--threads", "1")
"""What makes training take a second or two: the built-in architecture, unread weights, few neurons."""

HOOKS = """
import fcntl, importlib.abc, json, os, signal, sys, termios, threading, time

def send():
    os.kill(os.getpid(), int(os.environ["TEST_SIGNAL"]))

def send_more():
    for _ in range(int(os.environ["TEST_SIGNALS"]) - 1):
        time.sleep(0.02)
        send()

class Hook(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == os.environ.get("TEST_SIGNAL_AT"):
            os.environ.pop("TEST_SIGNAL_AT")
            threading.Thread(target=send_more).start()
            send()

# A background job of a shell without job control inherits a Ctrl-C that is ignored; a person at a terminal does not.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in json.loads(os.environ.get("TEST_IGNORED", "[]")):
    signal.signal(number, signal.SIG_IGN)
if os.isatty(2) and os.getsid(0) == os.getpid():
    fcntl.ioctl(2, termios.TIOCSCTTY, 0)
sys.meta_path.insert(0, Hook())
sys.modules.update(dict.fromkeys(json.loads(os.environ.get("TEST_MISSING", "[]"))))
"""
"""Loaded before a process begins: hides modules, and sends signals when a module is about to be imported."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its one JSON document."""
        return json.loads(self.out)

    def ended(self, code: int) -> Outcome:
        """The same, once it is sure that it ended so and without a traceback."""
        assert self.code == code, f"exit {self.code}\n{self.out[-3000:]}\n{self.err[-3000:]}"
        assert "Traceback" not in self.err
        assert "Exception ignored" not in self.err
        return self


@dataclass(frozen=True)
class Trained:
    """A run that ended, and how it was made."""

    data: Path
    run: Path
    options: tuple[str, ...]
    outcome: Outcome

    @property
    def task_file(self) -> Path:
        return self.run / "pictures.safetensors"


@dataclass(frozen=True)
class Packaged:
    """A package of that task."""

    folder: Path
    outcome: Outcome


def here(*arguments: str | Path) -> Outcome:
    """Runs a command in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def started(
    *arguments: str | Path,
    folder: Path,
    missing: Sequence[str] = (),
    signal_at: tuple[str, int] | None = None,
    signals: int = 1,
    ignored: Sequence[int] = (),
    terminal: int | None = None,
    stdout: int = subprocess.PIPE,
    **variables: str,
) -> subprocess.Popen[str]:
    """Starts a command in a process of its own.

    Args:
        arguments: of `mimi-edge`.
        folder: that it works in.
        missing: modules that it cannot import.
        signal_at: a module, and the signal that comes when it is about to be imported.
        signals: how many of them come, 20 ms apart.
        ignored: signals that whoever starts it has it ignore, as nohup does.
        terminal: descriptor of one that it gets as its own, for all that it says.
        stdout: as of Popen.
        variables: of the environment.
    """
    hooks = folder / ".hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "sitecustomize.py").write_text(HOOKS)
    environment = {**os.environ, "PYTHONPATH": str(hooks), "TEST_MISSING": json.dumps(list(missing)), **variables}
    environment["TEST_IGNORED"] = json.dumps([int(number) for number in ignored])
    if signal_at is not None:
        module, number = signal_at
        environment |= {"TEST_SIGNAL_AT": module, "TEST_SIGNAL": str(int(number)), "TEST_SIGNALS": str(signals)}
    program = [sys.executable, "-c", "from mimi_edge.cli.main import main; main()"]
    return subprocess.Popen(
        [*program, *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout if terminal is None else terminal,
        stderr=subprocess.PIPE if terminal is None else terminal,
        text=True,
        start_new_session=terminal is not None,
    )


def ended(process: subprocess.Popen[str]) -> Outcome:
    """Waits for a process."""
    out, err = process.communicate(timeout=300)
    return Outcome(process.returncode, out or "", err)


def apart(*arguments: str | Path, folder: Path, **options: Any) -> Outcome:
    """Runs a command in a process of its own; options as of `started`."""
    return ended(started(*arguments, folder=folder, **options))


def write_pictures(
    folder: Path, classes: Sequence[str] = CLASSES, per_class: int = 8, size: int = 16, mode: str = "RGB"
) -> Path:
    """A folder per class, with pictures of a colour each and some noise."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            pixels = rng.integers(0, 60, (size, size, 3))
            pixels[..., number % 3] += 150
            Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(folder / name / f"{index}.png")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
