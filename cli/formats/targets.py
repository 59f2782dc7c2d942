"""The packages that engines and adapters are made for: those that were given, or one that runs are first put into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.cli.defaults import (
    TASK_SUFFIX,
    default_package,
    holds,
    is_package,
    is_run,
    newest_run,
    runs_at_hand,
    runs_in,
)
from mimi_edge.cli.formats.onnx import Making, make_package, package_document, show_package
from mimi_edge.cli.output import say
from mimi_edge.errors import ConfigError
from mimi_edge.export.open_packages import read_package

if TYPE_CHECKING:
    from mimi_edge.export.given import GivenTask
    from mimi_edge.export.open_packages import Package


@dataclass(frozen=True)
class Target:
    """A package to work on.

    Attributes:
        package: as it is now.
        tasks: of it that were asked for; None is all.
        runs: that belong to its tasks, for their images.
        document: what was put into it just now, None where nothing was.
    """

    package: Package
    tasks: tuple[str, ...] | None = None
    runs: tuple[Path, ...] = ()
    document: dict[str, Any] | None = None


def are_made_first(sources: Sequence[Path]) -> bool:
    """Whether a package is made, or brought up to date, before there is something to work on."""
    return not sources or any(_is_task(source) for source in sources)


def targets(sources: Sequence[Path], making: Making, *, as_json: bool) -> list[Target]:
    """What to work on; packages that were given stay as they are.

    Args:
        sources: packages, run folders and task files; none means the run that was finished last, and where there is
            no run, the package that is here.
        making: how tasks become a package, and which.
        as_json: print nothing on stdout.

    Raises:
        ArtifactError: a package is damaged, or a task belongs to another backbone than the package's.
        ConfigError: there is nothing to take.
        ExportMismatchError: a graph does not answer what was trained.
        MimiEdgeError: the package cannot be made here.
    """
    if not sources:
        return [_here(making, as_json=as_json)]
    found = [Target(read_package(source, ())) for source in sources if not _is_task(source)]
    tasks = [source for source in sources if _is_task(source)]
    return [*found, _with(tasks, making, as_json=as_json)] if tasks else found


def only_target(sources: Sequence[Path], making: Making, *, as_json: bool) -> Target:
    """The same where there can be one package only.

    Raises:
        ConfigError: several were given; nothing was made.
    """
    packages = [source for source in sources if not _is_task(source)]
    count = len(packages) + (len(packages) < len(sources))
    if count > 1:
        raise ConfigError(f"This takes one package at a time; got {count}. Run it once for each.")
    return targets(sources, making, as_json=as_json)[0]


def _is_task(source: Path) -> bool:
    """A run folder or a task file; everything else has to be a package."""
    return not is_package(source) and (is_run(source) or source.suffix == TASK_SUFFIX)


def _here(making: Making, *, as_json: bool) -> Target:
    """The newest run, put into the package with all that this one holds already; else the package alone."""
    if not any(run.is_finished for run in runs_in()) and is_package(making.package):
        package = read_package(default_package(making.package), ())
        return Target(package, None, ())
    made = _with([newest_run()], making, as_json=as_json)
    return replace(made, tasks=None, runs=() if making.data else tuple(runs_at_hand(made.package).values()))


def _with(sources: Sequence[Path], making: Making, *, as_json: bool) -> Target:
    """A package that holds these tasks as they are."""
    from mimi_edge.export.given import given_task

    given = [given_task(source) for source in sources]
    before = read_package(making.package, verify=False) if is_package(making.package) else None
    lacking = [one for one in given if before is None or not holds(before, one.name, one.path)]
    document = None
    if before is None or lacking:
        say(_why(before, making.package, lacking))
        package = make_package(lacking, making)
        document = package_document(package, lacking)
        if not as_json:
            show_package(package, lacking)
        say(f"The package {making.package} is made, and stays whatever comes of the rest.")
    else:
        package = before
        say(f"The package {making.package} holds {_names(given)} as trained.")
    runs = tuple(one.path.parent for one in given if one.config is not None and not making.data)
    return Target(package, tuple(one.name for one in given), runs, document)


def _why(before: Package | None, folder: Path, lacking: Sequence[GivenTask]) -> str:
    if before is None:
        return f"There is no package in {folder} yet: making it of {_names(lacking)}."
    stale = [one for one in lacking if one.name in before.tasks]
    older = f", with {_names(stale)} in another version" if stale else ""
    return f"The package {folder} is older{older}: putting {_names(lacking)} into it."


def _names(given: Sequence[GivenTask]) -> str:
    return ", ".join(one.name for one in given)
