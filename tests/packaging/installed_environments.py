"""Environments that hold the wheel and nothing of the checkout, and commands run in them."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def link_distributions(wheel: Path, parts: Sequence[str], site_packages: Path) -> None:
    """Links what a wheel with some of its parts needs, and what that needs in turn, from the environment of this run.

    What is not here is left out: whoever installs the wheel beside it finds that out.
    """
    needed, waiting = set[tuple[str, str]](), [(line, part) for line in _required(wheel) for part in parts]
    while waiting:
        line, part = waiting.pop()
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": part}):
            continue
        for extra in ("", *requirement.extras):
            if (key := (canonicalize_name(requirement.name), extra)) not in needed:
                needed.add(key)
                waiting += [(inner, extra) for inner in _requirements(requirement.name)]
    for name in {name for name, _ in needed}:
        _link(name, site_packages)


def _required(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist", [])


def _requirements(name: str) -> list[str]:
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _link(name: str, site_packages: Path) -> None:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return
    for file in distribution.files or ():
        source, target = Path(str(distribution.locate_file(file))), site_packages / file
        if ".." in file.parts or not source.is_file():
            continue  # programs, which name the interpreter that they were installed for
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except FileExistsError:
            continue
        except OSError:  # another file system
            shutil.copy2(source, target)


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
