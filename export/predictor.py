"""A task that stays open and answers from Python: frames of a camera, arrays, files, Pillow images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, Union, final, overload

import numpy as np
from numpy.typing import NDArray

from mimi_edge.choices import Backend, backend_named
from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, silent
from mimi_edge.export.answers import TOP, NotFiniteError, Ranked, ranked
from mimi_edge.export.manifest import MANIFEST, read_manifest
from mimi_edge.export.prediction import BATCH
from mimi_edge.export.prefetch import ready_batches
from mimi_edge.export.serving.find import serving
from mimi_edge.export.serving.served import ServedTask, Serving
from mimi_edge.images.preprocessing import Preprocessing, fit, normalise
from mimi_edge.images.read_image import UnusableImageError, as_rgb, read_rgb
from mimi_edge.runtimes import GRAPH_BACKENDS
from mimi_edge.tasks.stores import Floats

if TYPE_CHECKING:
    from PIL.Image import Image

Picture: TypeAlias = Union[str, Path, NDArray[np.uint8], "Image"]
"""A file, an array [H, W, 3] of RGB values 0..255, or a Pillow image."""
Pictures: TypeAlias = list[Any] | tuple[Any, ...]
"""Several of them, of any kinds."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a task says about one image.

    Attributes:
        task: its name.
        label: the most probable class.
        probability: of it, 0..1.
        top: the most probable classes with their probabilities, best first.
        logits: of all classes, in their order, float32 [C].
    """

    task: str
    label: str
    probability: float
    top: Ranked
    logits: Floats


@final
class Predictor:
    """One task of a package, a graph, a folder of adapters or a run: loaded once, asked many times.

    It may be asked from several threads: ONNX Runtime answers them at the same time, other backends one after another.
    Used as a context manager, or with `close`, it gives its memory back.

    Attributes:
        task: name of the task.
        classes: in the order of the logits.
        preprocessing: what happens to an image before.
    """

    def __init__(
        self,
        source: str | Path = "package",
        task: str | None = None,
        *,
        backend: Backend | str | None = None,
        engine: str | Path | None = None,
        trust: bool = False,
        threads: int | None = None,
        batch: int = BATCH,
        top: int = TOP,
        listener: Listener = silent,
    ) -> None:
        """Opens a task.

        Args:
            source: a package, a folder of ONNX Runtime adapters, one merged `.onnx` graph, a run folder, a task file.
            task: its name, where the source has several.
            backend: `ort-cpu` (the default), `ort-cuda`, `ort-trt`, `trt`, `trt-rtx`; `torch` for runs and task files.
            engine: an engine for the package's tasks, instead of one from its shelf.
            trust: use that engine even if it is on no shelf.
            threads: of the runtime.
            batch: images that go through at once when a list is given.
            top: how many of the most probable classes are named.
            listener: hears what cannot be used.

        Raises:
            ArtifactError: the source is damaged or has no task, or an engine is not to be trusted.
            ConfigError: there is no such task, or several and none was named; or a number makes no sense.
            MimiEdgeError: the backend is not installed, or cannot run here.
        """
        if batch < 1 or top < 1:
            raise ConfigError(f"batch and top must be at least 1; got batch={batch}, top={top}.")
        _require_a_name(Path(source), task)
        found = serving(
            Path(source),
            None if task is None else [task],
            backend=None if backend is None else backend_named(backend),
            engine=None if engine is None else Path(engine),
            trust=trust,
            threads=threads,
            listener=listener,
        )
        self._batch, self._top = batch, top
        self._open: Iterator[ServedTask] | None
        self._open, self._served = _the_one_task(found, source)
        self._turns = _turns(backend)

    @property
    def task(self) -> str:
        """Name of the task."""
        return self._served.name

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return self._served.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to an image before."""
        return self._served.preprocessing

    @overload
    def __call__(self, images: Picture) -> Answer: ...

    @overload
    def __call__(self, images: Pictures) -> list[Answer]: ...

    def __call__(self, images: Picture | Pictures) -> Answer | list[Answer]:
        """Answers for one image, or for each of a list in turn.

        Args:
            images: a file, an array [H, W, 3] of RGB values 0..255, a Pillow image, or a list of these. OpenCV's frames
                are BGR: give `frame[:, :, ::-1]`.

        Raises:
            ConfigError: an image cannot be used; of a list, the message says which by its index.
            NotFiniteError: the answer to an image holds NaN or infinity; likewise.
        """
        if isinstance(images, list | tuple):
            return list(self._answers(images, [f"Image {index}" for index in range(len(images))]))
        return next(self._answers([images], ["The image"]))

    def logits(self, images: Picture | Pictures) -> Floats:
        """Raw logits, float32 [C] of one image, or [n, C] of a list; whatever they are, NaN included.

        Raises:
            ConfigError: as of a call.
        """
        if isinstance(images, list | tuple):
            names = [f"Image {index}" for index in range(len(images))]
            rows = list(self._logits(images, names))
            return np.stack(rows) if rows else np.empty((0, len(self.classes)), np.float32)
        return next(self._logits([images], ["The image"]))

    def close(self) -> None:
        """Gives back what the task holds; it cannot be asked any more."""
        opened, self._open = self._open, None
        if opened is not None and hasattr(opened, "close"):
            opened.close()

    def __enter__(self) -> Predictor:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        self.close()

    def __repr__(self) -> str:
        return f"Predictor(task={self.task!r}, {len(self.classes)} classes{', closed' if self._open is None else ''})"

    def _answers(self, images: Sequence[Any], names: Sequence[str]) -> Iterator[Answer]:
        for name, logits in zip(names, self._logits(images, names), strict=True):
            found = ranked(logits, self.classes, self._top)
            if found is None:
                raise NotFiniteError(self.task, name)
            yield Answer(self.task, *found[0], found, logits)

    def _logits(self, images: Sequence[Any], names: Sequence[str]) -> Iterator[Floats]:
        if len(images) == 1:
            yield from self._run(self._ready((names[0], images[0])))
            return
        # Several are prepared by threads while others are answered.
        with closing(ready_batches(zip(names, images, strict=True), self._ready, self._batch)) as batches:
            for together in batches:
                prepared = []
                for _, outcome in together:
                    if isinstance(outcome, ConfigError):
                        raise outcome
                    prepared.append(outcome)
                yield from self._run(np.concatenate(prepared))

    def _run(self, images: Floats) -> Floats:
        if self._open is None:
            raise ConfigError(f"This predictor of {self.task!r} is closed. Make another one.")
        with self._turns:
            return self._served.run(images)

    def _ready(self, named: tuple[str, Any]) -> Floats:
        name, image = named
        try:
            pixels = fit(_rgb(image, name), self.preprocessing)
        except UnusableImageError as error:
            raise ConfigError(f"{name} cannot be used: {error.reason}{_of_file(image)}.") from error
        return normalise(pixels[None], self.preprocessing)


def _require_a_name(source: Path, task: str | None) -> None:
    """Asks which task of a package is meant before any of them is looked at: opening hashes what will be used."""
    if task is None and (source / MANIFEST).is_file():
        names = sorted(read_manifest(source).tasks)
        if len(names) > 1:
            raise _several(source, names)


def _several(source: str | Path, names: Iterable[str]) -> ConfigError:
    return ConfigError(f"{source} has several tasks: name one with task=, of {', '.join(map(repr, names))}.")


def _the_one_task(found: Serving, source: str | Path) -> tuple[Iterator[ServedTask], ServedTask]:
    """The task, and what keeps it open."""
    if len(found.tasks) != 1:
        raise _several(source, found.tasks) if found.tasks else ConfigError(f"{source} has no task.")
    opened = found.served()
    return opened, next(opened)


def _turns(backend: Backend | str | None) -> AbstractContextManager[Any]:
    """What keeps two threads from asking at once, where the runtime would mind."""
    return nullcontext() if backend is None or Backend(backend) in GRAPH_BACKENDS else Lock()


def _rgb(image: Any, name: str) -> Image:
    if isinstance(image, str | Path):
        return read_rgb(Path(image))
    if isinstance(image, np.ndarray):
        return _of_array(image, name)
    if hasattr(image, "convert") and hasattr(image, "mode"):
        return as_rgb(image, name)
    raise ConfigError(
        f"{name} is a {type(image).__name__}; expected a path, an array [H, W, 3] of RGB values 0..255, or a Pillow "
        "image."
    )


def _of_array(image: NDArray[Any], name: str) -> Image:
    from PIL import Image

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        hint = " Give several frames as a list." if image.ndim == 4 else ""
        raise ConfigError(
            f"{name} is an array {list(image.shape)} of {image.dtype}; expected [H, W, 3] of uint8, RGB values "
            f"0..255.{hint}"
        )
    return Image.fromarray(np.ascontiguousarray(image))


def _of_file(image: object) -> str:
    return f" ({image})" if isinstance(image, str | Path) else ""
