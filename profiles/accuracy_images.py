"""The labelled images that the accuracy of what is profiled is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener
from mimi_edge.export.given import GivenTask, decoded_split, given_of_runs
from mimi_edge.images.decode import LabelledImages

if TYPE_CHECKING:
    from mimi_edge.profiles.runtimes.artefact import Artefact
    from mimi_edge.training.run_folders import Run


def weights_of(runs: Sequence[Run]) -> str | None:
    """The backbone's weights that runs were made with; None where there are no runs."""
    return next((run.config.weights for run in runs), None)


def labelled_images(
    artefacts: Sequence[Artefact], runs: Sequence[Run], data: str | None, listener: Listener
) -> dict[str, LabelledImages]:
    """The test splits of the tasks whose images are known, by name.

    Args:
        artefacts: that are measured.
        runs: that made their tasks.
        data: where the images of the one task are, without a run.
        listener: hears how the data was understood.

    Raises:
        ConfigError: a run is of another task, or the data cannot be used.
    """
    given = _given(artefacts, runs, data).items()
    decoded = {name: decoded_split(found, data, listener) for name, found in given}
    return {name: images for name, images in decoded.items() if images is not None}


def _given(artefacts: Sequence[Artefact], runs: Sequence[Run], data: str | None) -> dict[str, GivenTask]:
    """Those tasks whose images are known, because their run was given, or `--data` for the one task."""
    given = given_of_runs(runs)
    files = {one.task: one.task_file for one in artefacts if one.task is not None}
    if unknown := [name for name in given if name not in files]:
        raise ConfigError(
            f"--run is of {', '.join(unknown)}; what is profiled has the tasks {', '.join(files) or 'none'}. "
            "Give the run of one of these."
        )
    if data is not None:
        name, file = next(iter(files.items()), ("", None))
        if len(files) != 1 or runs or file is None:
            raise ConfigError("--data says where the images of one task are. Choose one with --task, or give --run.")
        given[name] = GivenTask(file)
    return given
