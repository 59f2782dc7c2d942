"""Gradient checkpointing (arXiv 1604.06174): of each block a step keeps what went in, and computes the rest twice.

A step then holds one block's insides instead of all of them, for one more forward pass. The second pass must do what
the first one did, although it runs when that is long over: parameters that an edit had replaced are put back for it,
and chance is drawn from where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mimi_edge.errors import ConfigError
from mimi_edge.methods.description import Description
from mimi_edge.methods.edits import Prompts
from mimi_edge.methods.network import Network
from mimi_edge.training.hooks import doing


@contextmanager
def recomputing(network: nn.Module, blocks: Sequence[str], generator: torch.Generator | None = None) -> Iterator[None]:
    """Meanwhile passes keep no more of these blocks than their inputs; gradients of such a pass belong in here, too.

    Args:
        network: whose passes are meant.
        blocks: names of modules of it, none inside another.
        generator: that modules of the blocks draw from; None where they draw from torch's own, or not at all.
    """
    with ExitStack() as undo:
        for name in blocks:
            block = network.get_submodule(name)
            undo.enter_context(doing(block, partial(_checkpointed, block, block.forward, generator)))
        yield


def require_recomputable(description: Description, network: Network) -> None:
    """Sees to it that a second pass through a block can do what the first one did.

    Raises:
        ConfigError: it cannot, since blocks hand on more than their outputs.
    """
    if network.looks_at_windows and any(isinstance(edit, Prompts) for edit in description.edits):
        raise ConfigError(
            "--grad-checkpointing: prompts that go from window to window and from block to block are not there for a "
            "second pass. Leave it out, or take another --method, such as vpt-deep."
        )


def _checkpointed(
    block: nn.Module, forward: Callable[..., Any], generator: torch.Generator | None, *args: Any, **kwargs: Any
) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=partial(_contexts, block, generator), **kwargs)


def _contexts(
    block: nn.Module, generator: torch.Generator | None
) -> tuple[AbstractContextManager[None, bool | None], AbstractContextManager[None, bool | None]]:
    """Around the first pass through a block, and around each that repeats it."""
    return nullcontext(), _AsItWas(block, generator)


class _AsItWas(AbstractContextManager[None]):
    """Meanwhile a block's parameters and a generator are what they were; gradients of gradients come here twice."""

    def __init__(self, block: nn.Module, generator: torch.Generator | None) -> None:
        self._parameters = [(part, dict(part._parameters)) for part in block.modules()]
        self._generator = generator
        self._drawn = None if generator is None else generator.get_state()
        self._undo = ExitStack()

    def __enter__(self) -> None:
        for part, own in self._parameters:
            self._undo.callback(part._parameters.update, dict(part._parameters))
            part._parameters.update(own)
        if self._generator is not None and self._drawn is not None:
            self._undo.callback(self._generator.set_state, self._generator.get_state())
            self._generator.set_state(self._drawn)

    def __exit__(self, *_: object) -> None:
        self._undo.close()
