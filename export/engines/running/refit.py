"""One engine whose adapters and head are replaced in place: a switch of tasks is a refit, in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from mimi_edge.errors import ArtifactError, EngineBuildError
from mimi_edge.export.engines.running.exchange import DeviceMemory
from mimi_edge.export.engines.running.executor import Executor, Plan
from mimi_edge.export.engines.running.fitting import Slot, Tensors, fitting
from mimi_edge.export.engines.running.one_task import EngineRunner
from mimi_edge.export.engines.running.switching import SwitchedRunner, check_classes
from mimi_edge.export.engines.tensorrt.bindings import Bindings
from mimi_edge.export.engines.tensorrt.messages import explain
from mimi_edge.tasks.stores import Floats


class Refit:
    """Replaces the weights of a loaded engine that were marked refittable when it was built.

    Attributes:
        names: of those weights.
    """

    def __init__(self, bindings: Bindings, executor: Executor) -> None:
        """Asks the engine what can be replaced.

        Raises:
            ArtifactError: nothing can.
        """
        self._bindings, self._executor = bindings, executor
        if not executor.engine.refittable:
            raise ArtifactError(f"{executor.name} was not built to be refitted. Export it with --strategy refit.")
        self._refitter = bindings.refitter(executor.engine)
        self.names = tuple(sorted(self._refitter.get_all_weights()))
        # TensorRT refers to these arrays for as long as they are set.
        self._held: dict[str, NDArray[Any]] = {}

    def close(self) -> None:
        """Lets go of the engine and of the weights."""
        self._refitter = None
        self._held = {}

    @property
    def slots(self) -> dict[str, Slot]:
        """For a task's weights, in the types and sizes that the engine was built with."""
        prototypes = {name: self._refitter.get_weights_prototype(name) for name in self.names}
        return {name: Slot(self._bindings.numpy_dtype(one.dtype), int(one.size)) for name, one in prototypes.items()}

    def apply(self, weights: Tensors) -> float:
        """Replaces all weights, and drops the CUDA graphs, which may have old ones in them.

        Args:
            weights: as the slots have them.

        Returns:
            Milliseconds until the engine was ready again; capturing graphs anew comes on top.

        Raises:
            EngineBuildError: TensorRT refuses, or misses weights; the engine then has to be loaded again.
        """
        self._executor.forget_graphs()
        start = perf_counter()
        # Contiguous already; the old arrays may go once the new ones are set.
        held = dict(weights)
        for name, values in held.items():
            self._ask(f"replace {name}", self._set, name, values)
        self._held = held
        self._check_missing()
        self._ask("refit", self._refitter.refit_cuda_engine_async, self._executor.stream.handle)
        self._executor.wait()
        return (perf_counter() - start) * 1000

    def _set(self, name: str, values: NDArray[Any]) -> bool:
        return bool(self._refitter.set_named_weights(name, self._bindings.weights(values)))

    def _check_missing(self) -> None:
        missing = list(self._refitter.get_missing_weights())
        if missing:
            raise EngineBuildError(
                f"{self._executor.name} also wants new values of {', '.join(sorted(missing)[:10])}: it joined them "
                "with what is replaced. Export it again, with only adapters and head refittable."
            )

    def _ask(self, doing: str, work: Any, *arguments: Any) -> None:
        with self._bindings.listening() as log:
            if not work(*arguments):
                raise explain(log, f"{doing} in {self._executor.name}")


@dataclass(frozen=True)
class Waiting:
    """A task on the host.

    Attributes:
        classes: C, that the task has.
        weights: by name, as the engine takes them.
    """

    classes: int
    weights: dict[str, NDArray[Any]]


class RefitRunner(SwitchedRunner[Waiting]):
    """A refittable engine, and the tasks it can be switched to, whose weights lie on the host. A context manager."""

    def __init__(self, plan: Plan) -> None:
        """Loads a plan without any task.

        Raises:
            ArtifactError: the plan is damaged, for another GPU or version, or cannot be refitted.
            MimiEdgeError: there is not enough memory.
        """
        super().__init__()
        with ExitStack() as stack:
            self.runner = stack.enter_context(EngineRunner(plan))
            self.executor, self.flow = self.runner.executor, self.runner.flow
            self._refit = Refit(plan.bindings, self.executor)
            stack.callback(self._refit.close)
            self._stack = stack.pop_all()

    def add(self, task: str, tensors: Tensors, classes: int) -> None:
        """Prepares a task; one of the same name is replaced, and has to be used again.

        Args:
            task: name of it.
            tensors: by the names of the engine's weights, padded; floats are converted.
            classes: C, the task's own.

        Raises:
            ArtifactError: the tensors are not those that the engine takes; every fault is named.
        """
        check_classes(classes, self.executor, task)
        self._tasks[task] = Waiting(classes, fitting(tensors, self._refit.slots, task))
        if self._current == task:
            self._current = None

    def remove(self, task: str) -> None:
        """Forgets a task.

        Raises:
            ConfigError: it is not there.
        """
        self._found(task)
        self._forget(task)

    def use(self, task: str) -> float:
        """Refits the engine to a task.

        Returns:
            Milliseconds it took; 0 where the task is in the engine already.

        Raises:
            ConfigError: there is no such task.
            EngineBuildError: TensorRT refuses; no task is in use then.
        """
        weights = self._found(task).weights
        if self._current == task:
            return 0.0
        self._current = None
        took_ms = self._refit.apply(weights)
        self._current = task
        return took_ms

    def launch(self, batch: int) -> None:
        """Starts the engine, with the task in use, on what is on the device; does not wait.

        Raises:
            ConfigError: no task is in use.
        """
        self._in_use()
        self.runner.launch(batch)

    @property
    def refittable(self) -> Sequence[str]:
        """Names of the weights that a switch replaces."""
        return self._refit.names

    @property
    def memory(self) -> DeviceMemory:
        """What the engine takes on the device; tasks that are not in use take none."""
        return self.runner.memory

    def _outputs(self, images: Floats) -> dict[str, Floats]:
        return self.runner.run_all(images)
