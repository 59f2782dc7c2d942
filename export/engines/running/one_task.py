"""Runs an engine that holds one task: images in, logits out."""

from __future__ import annotations

from contextlib import ExitStack

from mimi_edge.errors import ArtifactError
from mimi_edge.export.engines.running.exchange import DeviceMemory, ImageFlow, ImageRunner
from mimi_edge.export.engines.running.executor import Call, Executor, Plan
from mimi_edge.export.graphs import INPUT
from mimi_edge.tasks.stores import Floats


class EngineRunner(ImageRunner):
    """An engine with one task in it, ready to answer. A context manager."""

    def __init__(self, plan: Plan) -> None:
        """Loads a plan and makes room for its largest batch.

        Raises:
            ArtifactError: the plan is damaged, for another GPU or version, or takes more than images.
            MimiEdgeError: there is not enough memory.
        """
        with ExitStack() as stack:
            self.executor = stack.enter_context(Executor(plan))
            _expect_images_only(self.executor)
            self.flow = stack.enter_context(ImageFlow(self.executor))
            self._calls: dict[int, Call] = {}
            self._stack = stack.pop_all()

    def run_all(self, images: Floats) -> dict[str, Floats]:
        """Every output, in float32, by name; more than the logits where more were marked.

        Raises:
            ConfigError: the images have another shape.
            MimiEdgeError: the device failed.
        """
        return self.flow.run(images, self.launch)

    def launch(self, batch: int) -> None:
        """Starts the engine on what is on the device; does not wait. For measuring without copies."""
        if batch not in self._calls:
            self._calls[batch] = Call(batch, self.flow.shapes(batch), self.flow.exchange.addresses)
        self.executor.launch(self._calls[batch])

    @property
    def memory(self) -> DeviceMemory:
        """What it takes on the device."""
        return self.flow.memory({})


def _expect_images_only(executor: Executor) -> None:
    names = [port.name for port in executor.inputs]
    if names != [INPUT]:
        raise ArtifactError(
            f"{executor.name} takes {', '.join(names)}; expected only {INPUT}. Engines that several tasks share are "
            "run with their tasks."
        )
