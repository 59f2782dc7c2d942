"""Running a network from the middle, by watching its own forward pass instead of writing it down.

Where a pass starts at a link, the modules that are done before it are not run: each gives the answer that it gave for
an image of zeros, which only has the right shape, and the link gets the tokens that were kept. What runs between
modules runs as ever, on those answers, and costs next to nothing. That the rest of the pass depends on nothing else of
the image is not known beforehand; it is tried, once for each start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mimi_edge.images.image_size import ImageSize
from mimi_edge.training.hooks import doing

TRIED_IMAGES = 2
TOLERANCE = 1e-5
"""Largest difference between a resumed pass and a whole one, as a share of the largest feature."""


@dataclass(frozen=True)
class Call:
    """When a module ran in a pass, counting what begins and ends.

    Attributes:
        begin: number of its first beginning.
        end: number of its last end.
        once: whether it ran only once.
    """

    begin: int
    end: int
    once: bool = True


def watched_calls(module: nn.Module, images: Tensor) -> dict[str, Call]:
    """The calls of a network's modules, by name, in one pass over images [B, 3, H, W]."""
    calls: dict[str, Call] = {}
    moments = count()

    def begins(name: str) -> Any:
        def note(*_: object) -> None:
            moment = next(moments)
            before = calls.get(name)
            calls[name] = Call(moment, moment) if before is None else Call(before.begin, moment, once=False)

        return note

    def ends(name: str) -> Any:
        def note(*_: object) -> None:
            calls[name] = Call(calls[name].begin, next(moments), calls[name].once)

        return note

    with ExitStack() as hooks, torch.no_grad():
        for name, part in module.named_modules():
            hooks.callback(part.register_forward_pre_hook(begins(name)).remove)
            hooks.callback(part.register_forward_hook(ends(name)).remove)
        module(images)
    return calls


@dataclass(frozen=True)
class ResumedPass:
    """A network whose pass can start at some of its modules.

    A start is a number: 0 starts with images, the last with the network's own features, and the others with the tokens
    that go into a link.

    Args:
        module: the network, in evaluation mode: [B, 3, H, W] -> [B, F].
        calls: of its modules.
        links: names of the modules at which a pass may start, in the order in which they run.
        input_size: H and W.
    """

    module: nn.Module
    calls: Mapping[str, Call]
    links: tuple[str, ...]
    input_size: ImageSize
    _answers: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    _exact: dict[int, bool] = field(default_factory=dict, repr=False)

    @cached_property
    def starts(self) -> tuple[str, ...]:
        """Where a pass can start, from the first start on: at the links, and at the module behind them all."""
        last = max((self.calls[link].end for link in self.links), default=0)
        behind = [name for name, call in self.calls.items() if call.begin > last and call.once]
        return (*self.links, *sorted(behind, key=lambda name: self.calls[name].begin)[:1])

    @property
    def features(self) -> int:
        """The start with nothing left to run."""
        return len(self.starts) + 1

    def start_before(self, name: str) -> int:
        """The last start before a module, or before the module that has a parameter, runs."""
        while name and name not in self.calls:
            name = name.rpartition(".")[0]
        return sum(self.calls[start].begin <= self.calls[name].begin for start in self.starts)

    def exact_start(self, start: int) -> int:
        """The last start up to one from which a pass gives exactly what a whole one gives."""
        while 0 < start < self.features and not self._exact_from(start):
            start -= 1
        return start

    def run_before(self, images: Tensor, start: int) -> Tensor:
        """What a pass over images [B, 3, H, W] needs at a start."""
        if start == 0:
            return images
        with torch.no_grad():
            if start == self.features:
                features: Tensor = self.module(images)
                return features
            tokens: Tensor = self._input_of(self.starts[start - 1], images)
            return tokens

    def run_from(self, tokens: Tensor, start: int, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """The features [B, F] of a pass that starts with what `run_before` gave.

        Args:
            tokens: of B images.
            start: where to.
            parameters: other values for some of the network's parameters, by name.
        """
        if start == self.features:
            return tokens
        with self._starting(tokens, start) as images:
            features: Tensor = (
                functional_call(self.module, dict(parameters), (images,)) if parameters else self.module(images)
            )
        return features

    @contextmanager
    def _starting(self, tokens: Tensor, start: int) -> Iterator[Tensor]:
        """Meanwhile a pass over the images that are given starts at a link, with these tokens."""
        if start == 0:
            yield tokens
            return
        link, batch = self.starts[start - 1], len(tokens)
        with ExitStack() as undo:
            for name, answer in self._answers_before(link).items():
                given = _for_batch(answer, batch)
                undo.enter_context(doing(self.module.get_submodule(name), lambda *_, given=given, **__: given))
            hook = self.module.get_submodule(link).register_forward_pre_hook(
                lambda _, args: (tokens, *args[1:]), prepend=True
            )
            undo.callback(hook.remove)
            yield self._nothing().expand(batch, -1, -1, -1)

    def _nothing(self) -> Tensor:
        some = next(self.module.parameters())
        return torch.zeros(1, 3, *self.input_size, device=some.device)

    def _answers_before(self, link: str) -> dict[str, Any]:
        """What the modules that are done before a link answered for one image, but for those inside such modules."""
        if link not in self._answers:
            done = [name for name, call in self.calls.items() if name and call.end < self.calls[link].begin]
            answers: dict[str, Any] = dict.fromkeys(
                name for name in done if self.calls[name].once and not _inside(name, done)
            )
            with ExitStack() as hooks, torch.no_grad():
                for name in answers:
                    handle = self.module.get_submodule(name).register_forward_hook(
                        lambda _, __, output, name=name: answers.update({name: output})
                    )
                    hooks.callback(handle.remove)
                self._input_of(link, self._nothing())
            # What has not one row for one image (windows, tables) is cheap or seldom, and runs as ever.
            self._answers[link] = {name: answer for name, answer in answers.items() if _is_for_one(answer)}
        return self._answers[link]

    def _input_of(self, link: str, images: Tensor) -> Any:
        def reached(_: nn.Module, args: tuple[Any, ...]) -> NoReturn:
            raise _ReachedError(args[0])

        # In front of what edits do to the same input.
        hook = self.module.get_submodule(link).register_forward_pre_hook(reached, prepend=True)
        try:
            self.module(images)
        except _ReachedError as end:
            return end.tokens
        finally:
            hook.remove()
        raise AssertionError(f"{link} did not run")

    def _exact_from(self, start: int) -> bool:
        if start not in self._exact:
            self._exact[start] = self._tried(start)
        return self._exact[start]

    @torch.no_grad()
    def _tried(self, start: int) -> bool:
        some, generator = self._nothing(), torch.Generator().manual_seed(0)
        images = torch.randn(TRIED_IMAGES, *some.shape[1:], generator=generator).to(some.device)
        tokens: Any = self._input_of(self.starts[start - 1], images)
        if not isinstance(tokens, Tensor) or len(tokens) != TRIED_IMAGES:
            return False
        whole = self.module(images)
        try:
            resumed = self.run_from(tokens, start)
        except (RuntimeError, TypeError, ValueError, IndexError):  # shapes that fit one image and no more
            return False
        return resumed.shape == whole.shape and bool((resumed - whole).abs().max() <= TOLERANCE * whole.abs().max())


class _ReachedError(Exception):
    """A pass came to where it should end."""

    def __init__(self, tokens: Any) -> None:
        super().__init__()
        self.tokens = tokens


def _is_for_one(answer: Any) -> bool:
    """Whether every tensor in an answer has one row."""
    if isinstance(answer, tuple | list):
        return all(map(_is_for_one, answer))
    return not isinstance(answer, Tensor) or (answer.ndim > 0 and len(answer) == 1)


def _for_batch(answer: Any, batch: int) -> Any:
    """An answer for one image as one for several."""
    if isinstance(answer, Tensor):
        return answer.expand(batch, *answer.shape[1:])
    if isinstance(answer, tuple | list):
        return type(answer)(_for_batch(each, batch) for each in answer)
    return answer


def _inside(name: str, others: Iterable[str]) -> bool:
    return any(name.startswith(f"{other}.") for other in others)
