"""Hooks by which edits take part in a backbone's forward pass, which itself is never rewritten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mimi_edge.methods.edits import Branch, Prompts, Tokens
from mimi_edge.methods.network import norm_before
from mimi_edge.methods.weights import Weight
from mimi_edge.training.families import Family

Remove = Callable[[], None]
ValueOf = Callable[[Weight], Tensor]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
    "none": lambda hidden: hidden,
}


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


def adding_tokens(backbone: nn.Module, edit: Tokens, value: ValueOf) -> Remove:
    """Lets an attention look at more tokens, normalised like the others; they are taken off behind it."""
    attention: Any = backbone.get_submodule(edit.place)
    norm = backbone.get_submodule(norm_before(edit.place))

    def more(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        images: Tensor = args[0]
        tokens = norm(value(edit.tokens))
        seen = torch.cat([images, tokens.to(images.dtype).expand(len(images), -1, -1)], 1)
        if kwargs.get("mask") is not None:  # between windows that were cut apart; everybody sees the tokens
            kwargs = kwargs | {"mask": _padded(kwargs["mask"], len(tokens))}
        return (seen, *args[1:]), kwargs

    def fewer(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return output[:, : output.shape[1] - len(value(edit.tokens))]

    handles = [
        attention.register_forward_pre_hook(more, with_kwargs=True),
        attention.register_forward_hook(fewer, prepend=True),
    ]
    biased = hasattr(attention, "_get_rel_pos_bias")
    if biased:
        own = attention._get_rel_pos_bias
        attention._get_rel_pos_bias = lambda: _padded(own(), len(value(edit.tokens)))

    def remove() -> None:
        for handle in handles:
            handle.remove()
        if biased:
            del attention._get_rel_pos_bias

    return remove


def adding_prompts(backbone: nn.Module, edit: Prompts, value: ValueOf) -> Remove:
    """Lets tokens join those of the image in front of the first block, and takes them off behind the last."""

    def join(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        images: Tensor = args[0]
        tokens = value(edit.tokens).to(images.dtype).expand(len(images), -1, -1)
        return (torch.cat([images, tokens], 1), *args[1:])

    def leave(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return output[:, : output.shape[1] - len(value(edit.tokens))]

    handles = [
        backbone.get_submodule(edit.first).register_forward_pre_hook(join),
        backbone.get_submodule(edit.last).register_forward_hook(leave),
    ]

    def remove() -> None:
        for handle in handles:
            handle.remove()

    return remove


def _padded(bias: Tensor, tokens: int) -> Tensor:
    """A bias [..., N, N] of attention for so many more tokens: it says nothing of them."""
    return functional.pad(bias, (0, tokens, 0, tokens))
