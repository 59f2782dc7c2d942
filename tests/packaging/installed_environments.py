"""Environments that hold the wheel and nothing of the checkout, and commands run in them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OURS_ALONE = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH"}
"""Variables by which the environment of this test run could leak into another one."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment that holds a wheel of this project and nothing from the checkout."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        return next((self.folder / "lib").glob("python*/site-packages"))

    def mimi_edge(self, *arguments: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs its `mimi-edge` and fails with all that was printed where that fails."""
        return run([self.folder / "bin" / "mimi-edge", *arguments], cwd=cwd, **variables)

    def can_import(self, module: str) -> bool:
        """Whether a module is found there."""
        probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
        return subprocess.run([self.python, "-c", probe, module], cwd=self.folder, check=False).returncode == 0


def attempt(command: Sequence[str | Path], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command away from the checkout and from this environment's variables, and gives what it left."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS_ALONE} | variables
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def run(command: Sequence[str | Path], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Like `attempt`, for a command that must succeed: fails with all that was printed where it does not."""
    done = attempt(command, cwd, **variables)
    shown = " ".join(str(part) for part in command)
    assert done.returncode == 0, f"$ {shown}\nexit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done
