"""What every runtime that is measured can do: one protocol, and which module keeps it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from mimi_edge.choices import Backend
from mimi_edge.profiles.runtimes import onnx_runtime, pytorch, tensorrt
from mimi_edge.profiles.runtimes.artefact import Artefact, Opening, Run, Wanted
from mimi_edge.runtimes import Runs, runtime_of

if TYPE_CHECKING:
    from mimi_edge.export.open_packages import Package


class MeasuredRuntime(Protocol):
    """A kind of runtime. Nothing heavy is imported before one of these is called."""

    def check(self, wanted: Wanted) -> None:
        """Makes sure, before any process is started, that it is installed, where that can be told in no time.

        Raises:
            MimiEdgeError: it is not, with the line that installs it.
        """

    def of_package(self, package: Package, tasks: Sequence[str], wanted: Wanted) -> Iterator[Artefact]:
        """What there is to measure of a package: its bare backbone first, where the runtime has one, then the tasks.

        Raises:
            ConfigError: a task has nothing that this runtime runs.
        """

    def of_task(self, package: Package, task: str, wanted: Wanted) -> Artefact:
        """What there is to measure of one task of a package."""

    def load(self, opening: Opening) -> None:
        """Loads what runs the artefact and makes its context on the device; the artefact itself is not touched.

        Raises:
            MimiEdgeError: the runtime is missing or does not work here.
        """

    def opened(self, opening: Opening) -> AbstractContextManager[Run]:
        """Opens an artefact, ready to answer, until the block ends.

        Raises:
            MimiEdgeError: it cannot be opened here.
        """


_BY_WHAT_THEY_RUN: Mapping[Runs, MeasuredRuntime] = {
    Runs.MODELS: pytorch,
    Runs.GRAPHS: onnx_runtime,
    Runs.ENGINES: tensorrt,
}


def measured_runtime(backend: Backend) -> MeasuredRuntime:
    """The runtime behind a backend."""
    return _BY_WHAT_THEY_RUN[runtime_of(backend).runs]
