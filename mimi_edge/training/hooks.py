"""How edits take part in a backbone's forward pass, which itself is never rewritten: hooks, and a module's stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from mimi_edge.methods.edits import Branch
from mimi_edge.methods.weights import Weight
from mimi_edge.training.families import Family

Remove = Callable[[], None]
ValueOf = Callable[[Weight], Tensor]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
    "none": lambda hidden: hidden,
}


@contextmanager
def doing(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Meanwhile a module does something else when it is called; its hooks run as ever. One may be inside another."""
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def adding_branch(backbone: nn.Module, family: Family, edit: Branch, value: ValueOf) -> Remove:
    """Adds a bottleneck's answer to the output of a sub-layer, tokens [..., M]."""

    def adapt(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        tokens = family.tokens_of(output)
        read = family.tokens_of(inputs[0]) if edit.parallel else tokens
        answer = _hidden(edit, read, value) @ value(edit.up)
        if edit.up_bias is not None:
            answer = answer + value(edit.up_bias)
        if not isinstance(edit.scale, float | int):
            answer = answer * value(edit.scale)
        elif edit.scale != 1:
            answer = answer * edit.scale
        return family.with_tokens(output, tokens + answer)

    return backbone.get_submodule(edit.place).register_forward_hook(adapt).remove


def watching_branch(
    backbone: nn.Module, family: Family, edit: Branch, value: ValueOf, hear: Callable[[Tensor], None]
) -> Remove:
    """Tells the answers of a bottleneck's neurons, [..., N], in each forward pass, whose outcome stays as it is."""

    def watch(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        hear(_hidden(edit, family.tokens_of(inputs[0] if edit.parallel else output), value))

    # In front of the bottleneck itself: what the next hook sees already has its answer in it.
    return backbone.get_submodule(edit.place).register_forward_hook(watch, prepend=True).remove


def _hidden(edit: Branch, tokens: Tensor, value: ValueOf) -> Tensor:
    """phi(x @ down + down_bias) of a bottleneck that reads tokens x [..., M]: [..., N]."""
    hidden = tokens @ value(edit.down)
    if edit.down_bias is not None:
        hidden = hidden + value(edit.down_bias)
    return ACTIVATIONS[edit.activation](hidden)
