"""What exports and profiles are given: run folders, or bare task files, and the data that belongs to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Listener
from mimi_edge.images.dataset import LabelledImages, Split, decode_split, load_dataset
from mimi_edge.images.read_image import shown
from mimi_edge.images.sources.asked import Asked
from mimi_edge.images.sources.find import source_of
from mimi_edge.images.sources.names import is_named
from mimi_edge.tasks.files import TaskFile, open_task
from mimi_edge.tasks.task import Task

if TYPE_CHECKING:
    from mimi_edge.export.open_packages import Package
    from mimi_edge.training.config import TrainingConfig
    from mimi_edge.training.run_folders import Run

TEST = "test"


@dataclass(frozen=True, eq=False)
class GivenTask:
    """A task file, and the run that made it where that is at hand; each of their files is read at most once.

    Attributes:
        path: of the task file.
        run: that made it, None for a task file that lies alone.
    """

    path: Path
    run: Run | None = None

    @cached_property
    def file(self) -> TaskFile:
        """The task file.

        Raises:
            ArtifactError: it is damaged, or is none.
        """
        return open_task(self.path) if self.run is None else self.run.task

    @property
    def task(self) -> Task:
        """The task in it."""
        return self.file.task

    @property
    def name(self) -> str:
        """Of the task, as its file says."""
        return self.file.name

    @property
    def config(self) -> TrainingConfig | None:
        """What its run was asked to do."""
        return None if self.run is None else self.run.config


def given_task(source: Path | Run) -> GivenTask:
    """Finds the task of a run folder, or takes a task file, with its run if it still lies in the run's folder.

    Raises:
        ConfigError: there is no finished task.
    """
    from mimi_edge.training.config import CONFIG_FILE
    from mimi_edge.training.run_folders import Run, is_run, open_run

    if isinstance(source, Run):
        return _task_of(source)
    folder = source if source.is_dir() else source.parent
    if not is_run(folder):
        if source.is_dir():
            raise ConfigError(f"{source} is no run folder (it has no {CONFIG_FILE}). Give a run folder or a task file.")
        return GivenTask(source)
    run = open_run(folder)
    if not source.exists():
        raise _unfinished(run)
    return _task_of(run) if source.is_dir() or source.name == run.task_path.name else GivenTask(source)


def _task_of(run: Run) -> GivenTask:
    if not run.is_finished:
        raise _unfinished(run)
    return GivenTask(run.task_path, run)


def _unfinished(run: Run) -> ConfigError:
    return ConfigError(f"The run in {run.folder} is not finished. Go on with it: mimi-edge train --resume {run.folder}")


def decoded_split(
    given: GivenTask, data: str | None, listener: Listener, *, split: str = TEST, at_most: int | None = None
) -> LabelledImages | None:
    """The images of a split as the run that made the task divided them, None where nobody knows where they are.

    Args:
        given: the task.
        data: where its images are, if it was said.
        listener: hears how the data was understood.
        split: `train`, `val` or `test`; the last is what the task file's test accuracy is of.
        at_most: so many images, spread over the split.

    Raises:
        ConfigError: the data cannot be used, or has other classes.
    """
    found = split_of(given, data, listener, split=split)
    if found is None:
        return None
    return decode_split(
        found if at_most is None else found.some(at_most),
        given.task.header.preprocessing,
        skip_bad_images=given.config is not None and given.config.skip_bad_images,
        listener=listener,
    )


def split_of(given: GivenTask, data: str | None, listener: Listener, *, split: str = TEST) -> Split | None:
    """The same before it is decoded.

    Raises:
        ConfigError: the data cannot be used, or has other classes.
    """
    config = given.config
    where = data or (config.data if config is not None else None)
    if where is None:
        return None
    task = given.task
    if config is None:
        # Before the images are shared out: a class that training left out may have too few for that.
        _require_its_classes(given, where, source_of(where).classes(Asked(where)), task)
    dataset = load_dataset(
        where,
        seed=config.seed if config is not None else 0,
        skip_bad_images=config is not None and config.skip_bad_images,
        listener=listener,
        columns=config.data_columns if config is not None else "",
        root=config.data_root if config is not None else "",
        split=_written_split(given, where),
        limits=config.limits if config is not None else None,
    )
    _require_its_classes(given, where, dataset.classes, task)
    return dataset.splits[split]


def _written_split(given: GivenTask, where: str) -> Mapping[str, Any] | None:
    """How its run divided the images, if these are the run's; those of a path may have moved."""
    if given.run is None or (is_named(where) and where != given.run.config.data):
        return None
    return given.run.split


def _require_its_classes(given: GivenTask, where: str, found: Sequence[str], task: Task) -> None:
    """Refuses data that has other classes than the task, and says what to give instead."""
    known = task.header.classes
    if tuple(found) == known:
        return
    what = "Give the --data that it was trained with."
    if given.config is None and set(known) < set(found):
        what = (
            "If training left the others out, with --min-images, its run folder knows it: give that, as --run RUN "
            "instead of --data, or in place of the task file."
        )
    raise ConfigError(
        f"{where} has the classes {', '.join(map(shown, found))}; the task {task.header.name!r} knows "
        f"{', '.join(known)}. {what}"
    )


def opened_runs(runs: Sequence[Path | Run]) -> tuple[Run, ...]:
    """Finished runs, or those in folders.

    Raises:
        ConfigError: a folder holds no finished run.
    """
    return tuple(map(_opened, runs))


def _opened(run: Path | Run) -> Run:
    if (found := given_task(run).run) is None:
        raise ConfigError(f"{run} is no run folder. Give --run the folder that mimi-edge train made.")
    return found


def given_of_runs(runs: Sequence[Run]) -> dict[str, GivenTask]:
    """The tasks of finished runs, by name."""
    return {run.config.name: _task_of(run) for run in runs}


def given_of_package(
    package: Package, tasks: Sequence[str], runs: Sequence[Path], data: str | None
) -> dict[str, GivenTask]:
    """Those tasks of a package whose images are known, because their run was given, or `--data` for the one task.

    Raises:
        ConfigError: a folder is no run, or the data cannot belong to one task.
    """
    given = given_of_runs(opened_runs(runs))
    if data is not None:
        names = tasks or list(package.tasks)
        if len(names) != 1 or runs:
            raise ConfigError("--data says where the images of one task are. Choose one with --task, or give --run.")
        given[names[0]] = GivenTask(package.task(names[0]).task_file)
    return given


def shared_backbone(tasks: list[Task]) -> str:
    """The content hash of the one backbone that tasks belong to.

    Raises:
        ArtifactError: they belong to several.
    """
    hashes = {task.header.backbone.sha256: task.header for task in tasks}
    if len(hashes) > 1:
        listed = "; ".join(f"{header.name}: {header.backbone.name} {sha[:12]}" for sha, header in hashes.items())
        raise ArtifactError(f"A package has one backbone; these tasks have several ({listed}). Export them apart.")
    return next(iter(hashes))
