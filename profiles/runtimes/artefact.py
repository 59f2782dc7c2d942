"""One thing to measure: what it is, how a process of its own opens it, and what was asked of its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.choices import Backend
from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, silent
from mimi_edge.images.image_size import ImageSize, document_of_size
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.runtimes import Runs, runtime_of
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import SplitAccuracy

if TYPE_CHECKING:
    from mimi_edge.export.external_data import VerifiedGraph

BACKBONE, TASK, GRAPH, ENGINE = "backbone", "task", "graph", "engine"
"""Kinds of artefacts."""

Run = Callable[[Floats], Floats]
"""Normalised images, float32 [B, 3, H, W], to outputs [B, ...], both in the host's memory."""


@dataclass(frozen=True)
class Opening:
    """What has to be known to open an artefact.

    Attributes:
        backend: that runs it.
        path: of the graph, the engine, or with torch the task file; None for torch's bare backbone.
        threads: of the CPU's part, None leaves it to the runtime.
        package: folder of the package whose task an engine answers for; None for an engine that is asked alone.
        task: name of that task.
        trust: take an engine that is on no shelf.
        backbone: for torch, its name.
        weights: for torch, where the backbone's are.
        image_size: for torch, H and W of the bare backbone.
        graph_sha256: of a graph that was verified already, and is opened only if it still is that one.
    """

    backend: Backend
    path: Path | None = None
    threads: int | None = None
    package: Path | None = None
    task: str | None = None
    trust: bool = False
    backbone: str | None = None
    weights: str | None = None
    image_size: ImageSize | None = None
    graph_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.path is None and (self.runs is not Runs.MODELS or self.task is not None):
            raise ConfigError(f"This says not how an artefact is opened: {self}.")

    @property
    def runs(self) -> Runs:
        """What the backend is given."""
        return runtime_of(self.backend).runs

    @property
    def file(self) -> Path:
        """The path of a graph or an engine, which have one.

        Raises:
            ConfigError: there is none.
        """
        if self.path is None:
            raise ConfigError(f"This says not what is opened: {self}.")
        return self.path

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        plain = {"backend": self.backend.value, "image_size": document_of_size(self.image_size)}
        values = asdict(self) | plain
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

    @staticmethod
    def of(document: Mapping[str, Any]) -> Opening:
        """From `document`."""
        paths = {name: Path(document[name]) for name in ("path", "package") if document[name] is not None}
        size = document["image_size"]
        read = {
            "backend": Backend(document["backend"]),
            "image_size": None if size is None else ImageSize.from_document(size),
        }
        return Opening(**{**document, **paths, **read})


@dataclass(frozen=True)
class Artefact:
    """One thing to measure.

    Attributes:
        name: of it, where no other artefact of the run has the same.
        kind: `backbone`, `task`, `graph` or `engine`.
        opening: how its process opens it.
        files: that it needs to run, each once.
        input_size: H and W of the images it takes.
        task: that it answers for, None for a bare backbone.
        task_file: where that task's header is, None where it is not at hand.
        preprocessing: what happens to an image before, None where nobody knows.
        precision: that it computes in.
        strategy: of an engine.
        neurons: of every site of the backbone, in network order.
        graph: a graph of the same arithmetic, to count operations in, as it was read; None where there is none.
        stored_accuracy: by split, as the task file says.
        origin: folder of the package, the graph, the task file or the engine it was found in.
        backbone: name of its backbone, None where nobody knows.
        batches: smallest and largest batch that it takes; None takes any.
        unproved: of an engine: why nobody knows that it answers what was trained; None where it was compared.
    """

    name: str
    kind: str
    opening: Opening
    files: tuple[Path, ...]
    input_size: ImageSize
    task: str | None = None
    task_file: Path | None = None
    preprocessing: Preprocessing | None = None
    precision: str = "fp32"
    strategy: str | None = None
    neurons: Mapping[str, int] | None = None
    graph: VerifiedGraph | None = None
    stored_accuracy: Mapping[str, SplitAccuracy] = field(default_factory=dict)
    origin: str = ""
    backbone: str | None = None
    batches: tuple[int, int] | None = None
    unproved: str | None = None

    @property
    def backend(self) -> Backend:
        """That runs it."""
        return self.opening.backend


@dataclass(frozen=True)
class Wanted:
    """What is asked of all sources.

    Attributes:
        backend: that runs packages, tasks and graphs; engines bring their own.
        tasks: names, None for all.
        threads: of the CPU's part.
        trust: take engines that are on no shelf.
        weights: of torch's backbone; None is `pretrained`.
        listener: hears what is left out.
    """

    backend: Backend = Backend.ORT_CPU
    tasks: tuple[str, ...] | None = None
    threads: int | None = None
    trust: bool = False
    weights: str | None = None
    listener: Listener = silent


def file_sizes(files: Iterable[Path]) -> dict[str, int]:
    """Bytes of files as they lie, by path; one that has several names is counted once.

    Raises:
        OSError: a file is missing.
    """
    sizes: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    for path in files:
        status = path.stat()
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            sizes[str(path)] = status.st_size
    return sizes
