"""Mixed batches: each answer names its frame and its task, so all tasks can answer one frame in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from mimi_edge.errors import ConfigError
from mimi_edge.export.engines.running.banks import Bank
from mimi_edge.export.engines.running.exchange import DeviceMemory, Exchange, boundary, check_images
from mimi_edge.export.engines.running.executor import Call, Executor, Plan
from mimi_edge.export.engines.running.fitting import Tensors, fitting
from mimi_edge.export.engines.running.owner import Owner
from mimi_edge.export.engines.running.shared import task_ports
from mimi_edge.export.engines.running.switching import check_classes, not_resident
from mimi_edge.export.graphs import INPUT, LOGITS
from mimi_edge.export.shared.inputs import FRAME_OF_ANSWER, TASK_OF_ANSWER
from mimi_edge.tasks.stores import Floats


@dataclass(frozen=True)
class Part:
    """Answers that go through the engine together.

    Attributes:
        answers: their numbers among all answers asked for.
        frames: numbers of the images they need, each once.
    """

    answers: tuple[int, ...]
    frames: tuple[int, ...]


class MixedRunner(Owner):
    """An engine that takes banks of tasks, with the tasks that are on the device. A context manager.

    Attributes:
        executor: what runs it.
    """

    def __init__(self, plan: Plan) -> None:
        """Loads a plan without any task.

        Raises:
            ArtifactError: the plan is damaged, for another GPU or version, or not for mixed batches.
            MimiEdgeError: there is not enough memory.
        """
        self._classes: dict[str, int] = {}
        with ExitStack() as stack:
            self.executor = stack.enter_context(Executor(plan))
            self._images = boundary(self.executor)
            self._frame_of, self._task_of = self.executor.port(FRAME_OF_ANSWER), self.executor.port(TASK_OF_ANSWER)
            exchanged = (self._images, self._frame_of, self._task_of, self.executor.port(LOGITS))
            self._ports = task_ports(self.executor, [port.name for port in exchanged])
            self._exchange = stack.enter_context(Exchange(self.executor, exchanged))
            self._bank = stack.enter_context(Bank(self.executor, self._ports))
            self._stack = stack.pop_all()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks on the device, in the order they came."""
        return tuple(self._classes)

    def add(self, task: str, tensors: Tensors, classes: int) -> None:
        """Writes a task into the bank; one of the same name is overwritten.

        Args:
            task: name of it.
            tensors: of this task alone, by the names of the engine's inputs, padded; floats are converted.
            classes: C, the task's own.

        Raises:
            ArtifactError: the tensors are not those that the engine takes; every fault is named.
            ConfigError: the engine has no room for another task.
            CudaError: there is not enough memory.
        """
        checked = fitting(tensors, self._bank.slots, task)
        check_classes(classes, self.executor, task)
        if self._bank.put(task, checked):
            self.executor.forget_graphs()
        self._classes[task] = classes

    def remove(self, task: str) -> None:
        """Frees a task's place in the bank.

        Raises:
            ConfigError: it is not there.
        """
        self._found(task)
        self._bank.drop(task)
        del self._classes[task]

    def answer(self, images: Floats, frames: Sequence[int], tasks: Sequence[str]) -> list[Floats]:
        """Answers about images, each by its own task.

        Args:
            images: normalised, float32 [F, 3, H, W].
            frames: [A], which image each answer is about.
            tasks: [A], name of the task that gives it.

        Returns:
            For each answer the logits of its task, float32 [C].

        Raises:
            ConfigError: an image or a task is not there, or the images have another shape.
            MimiEdgeError: the device failed.
        """
        self._check(images, frames, tasks)
        answers: dict[int, Floats] = {}
        for part in parts_of_answers(frames, self._images.largest[0], self._frame_of.largest[0]):
            call = self._load(images, frames, tasks, part)
            self.executor.launch(call)
            logits = self._exchange.fetch(LOGITS, (dict(call.shapes)[FRAME_OF_ANSWER][0], self._most_classes))
            self.executor.wait()
            for number, row in zip(part.answers, logits, strict=False):
                answers[number] = row[: self._classes[tasks[number]]].astype(np.float32)
        return [answers[number] for number in range(len(frames))]

    def all_tasks(self, image: Floats) -> dict[str, Floats]:
        """What every task on the device says about one image, float32 [3, H, W]: logits [C] by name, in one pass.

        Raises:
            ConfigError: there is no task, or the image has another shape.
            MimiEdgeError: the device failed.
        """
        names = self.tasks
        return dict(zip(names, self.answer(image[None], [0] * len(names), names), strict=True))

    def load(self, images: Floats, frames: Sequence[int], tasks: Sequence[str]) -> Call:
        """Puts one batch on the device and waits for it; gives the call to launch. For measuring without copies.

        Raises:
            ConfigError: it is more than the engine takes at once, or as `answer` says.
        """
        self._check(images, frames, tasks)
        parts = list(parts_of_answers(frames, self._images.largest[0], self._frame_of.largest[0]))
        if len(parts) > 1:
            raise ConfigError(f"{self.executor.name} takes this in {len(parts)} parts; give it less at once.")
        call = self._load(images, frames, tasks, parts[0])
        self.executor.wait()
        return call

    def launch(self, call: Call) -> None:
        """Starts the engine on what is on the device; does not wait."""
        self.executor.launch(call)

    @property
    def memory(self) -> DeviceMemory:
        """What engine and tasks take on the device; places that no task has yet are `free places`."""
        tasks = dict.fromkeys(self.tasks, self._bank.place_bytes)
        spare = self._bank.size_bytes - sum(tasks.values())
        executor = self.executor
        return DeviceMemory(
            executor.loaded_bytes,
            executor.scratch_bytes,
            self._exchange.size_bytes,
            tasks | ({"free places": spare} if spare else {}),
        )

    @property
    def _most_classes(self) -> int:
        return self.executor.port(LOGITS).largest[1]

    def _load(self, images: Floats, frames: Sequence[int], tasks: Sequence[str], part: Part) -> Call:
        """Starts to copy a part to the device, filled up with zeros where the engine wants more."""
        local = {frame: index for index, frame in enumerate(part.frames)}
        frame_of = [local[frames[number]] for number in part.answers]
        task_of = [self._bank.place(tasks[number]) for number in part.answers]
        frame_rows = max(len(part.frames), self._images.smallest[0])
        answer_rows = max(len(part.answers), self._frame_of.smallest[0])
        self._exchange.send(INPUT, images[list(part.frames)], frame_rows)
        self._exchange.send(FRAME_OF_ANSWER, np.asarray(frame_of, self._frame_of.dtype), answer_rows)
        self._exchange.send(TASK_OF_ANSWER, np.asarray(task_of, self._task_of.dtype), answer_rows)
        return self._call(frame_rows, answer_rows)

    def _call(self, frame_rows: int, answer_rows: int) -> Call:
        shapes = {
            INPUT: (frame_rows, *self._images.shape[1:]),
            FRAME_OF_ANSWER: (answer_rows,),
            TASK_OF_ANSWER: (answer_rows,),
            **self._bank.shapes,
        }
        key = (frame_rows, answer_rows, self._bank.capacity)
        return Call(key, self.executor.varying(shapes), {**self._exchange.addresses, **self._bank.addresses})

    def _check(self, images: Floats, frames: Sequence[int], tasks: Sequence[str]) -> None:
        check_images(images, self._images, self.executor.name)
        if not frames or len(frames) != len(tasks):
            raise ConfigError(
                f"Each answer needs an image and a task; got {len(frames)} numbers of images, {len(tasks)} tasks."
            )
        wrong = sorted({frame for frame in frames if not 0 <= frame < len(images)})
        if wrong:
            raise ConfigError(f"There are images 0..{len(images) - 1}; answers ask for {wrong[:5]}.")
        for task in tasks:
            self._found(task)

    def _found(self, task: str) -> int:
        if task not in self._classes:
            raise not_resident(task, self._classes)
        return self._classes[task]


def parts_of_answers(frames: Sequence[int], most_frames: int, most_answers: int) -> Iterator[Part]:
    """Cuts answers, in their order, into parts that an engine takes.

    Args:
        frames: which image each answer is about.
        most_frames: images that go through at once.
        most_answers: answers that do.
    """
    answers: list[int] = []
    needed: dict[int, None] = {}
    for number, frame in enumerate(frames):
        full = len(answers) == most_answers or (frame not in needed and len(needed) == most_frames)
        if full:
            yield Part(tuple(answers), tuple(needed))
            answers, needed = [], {}
        answers.append(number)
        needed[frame] = None
    if answers:
        yield Part(tuple(answers), tuple(needed))
