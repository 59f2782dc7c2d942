"""What is served, how it was asked for, and the package that stays as it is meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.choices import Backend
from mimi_edge.events import Listener, silent
from mimi_edge.export.open_packages import Package, opened_package
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.tasks.stores import Floats


@dataclass(frozen=True)
class ServedTask:
    """A task that is loaded and ready.

    Attributes:
        name: of it.
        classes: in the order of the logits.
        preprocessing: what happens to an image before.
        run: normalised images, float32 [B, 3, H, W] -> logits, float32 [B, C].
    """

    name: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    run: Callable[[Floats], Floats]


@dataclass(frozen=True)
class Serving:
    """What can be asked of a source.

    Attributes:
        tasks: names, in the order in which they are served.
        served: loads and gives them, one after another, once; what the one before needed alone is closed. Until the
            last one is loaded the package stays as it is: who wants to change it waits.
    """

    tasks: tuple[str, ...]
    served: Callable[[], Iterator[ServedTask]]


@dataclass(frozen=True)
class Asked:
    """How tasks shall be served.

    Attributes:
        tasks: names of those wanted; None is all.
        backend: what runs them; None is what suits the source.
        engine: an engine to use with the package's tasks instead of one from its shelf.
        trust: take it even if it is on no shelf.
        threads: of ONNX Runtime.
        listener: hears what cannot be used.
    """

    tasks: Sequence[str] | None = None
    backend: Backend | None = None
    engine: Path | None = None
    trust: bool = False
    threads: int | None = None
    listener: Listener = silent

    @property
    def graph_backend(self) -> Backend:
        """What runs graphs, where nothing else was asked for."""
        return self.backend or Backend.ORT_CPU


class HeldPackage:
    """A package that stays as it is from the first look until all that is served is loaded.

    It is let go of then, or when nobody can ask for it any more.
    """

    def __init__(self, folder: Path, tasks: Sequence[str] | None, *, graphs: bool) -> None:
        self._stack = ExitStack()
        self.package: Package = self._stack.enter_context(opened_package(folder, tasks, graphs=graphs))
        self.tasks = list(self.package.tasks if tasks is None else tasks)

    def let_go(self) -> None:
        """Everything is loaded."""
        self._stack.close()

    @contextmanager
    def unless_refused(self) -> Iterator[None]:
        """Lets go where the block finds that nothing can be served."""
        try:
            yield
        except BaseException:
            self.let_go()
            raise

    def __enter__(self) -> Package:
        return self.package

    def __exit__(self, *_: object) -> None:
        self.let_go()
