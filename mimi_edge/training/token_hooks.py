"""Hooks by which tokens join those of an image, for one attention or for all blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from mimi_edge.methods.edits import Prompts, Tokens
from mimi_edge.methods.network import Network, norm_before, norm_between
from mimi_edge.training.hooks import Remove, ValueOf


def adding_tokens(backbone: nn.Module, edit: Tokens, value: ValueOf) -> Remove:
    """Lets an attention look at more tokens, normalised like the others; they are taken off behind it."""
    attention: Any = backbone.get_submodule(edit.place)
    norm = backbone.get_submodule(norm_before(edit.place))

    def more(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        images: Tensor = args[0]
        tokens = norm(value(edit.tokens))
        seen = _joined(images, tokens)
        return (seen, *args[1:]), _with_mask_for(kwargs, len(tokens))

    def fewer(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return _split(output, len(value(edit.tokens)))[0]

    unhook = _remover(
        attention.register_forward_pre_hook(more, with_kwargs=True),
        attention.register_forward_hook(fewer, prepend=True),
    )
    return _together(unhook, _padding_bias(attention, lambda: len(value(edit.tokens))))


def _padding_bias(attention: Any, tokens: Callable[[], int]) -> Remove:
    """Lets a bias of relative positions, where an attention has one, say nothing of so many more tokens."""
    if not hasattr(attention, "_get_rel_pos_bias"):
        return lambda: None
    own = attention._get_rel_pos_bias
    attention._get_rel_pos_bias = lambda: _padded(own(), tokens())

    def remove() -> None:
        del attention._get_rel_pos_bias

    return remove


def adding_prompts(backbone: nn.Module, network: Network, edit: Prompts, value: ValueOf) -> Remove:
    """Lets tokens join those of the image in front of the first block, and takes them off behind the last."""
    if network.looks_at_windows:
        return _adding_to_windows(backbone, network, edit, value)

    def join(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_joined(args[0], value(edit.tokens)), *args[1:])

    def leave(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return _split(output, len(value(edit.tokens)))[0]

    return _remover(
        backbone.get_submodule(edit.first).register_forward_pre_hook(join),
        backbone.get_submodule(edit.last).register_forward_hook(leave),
    )


class _Carried:
    """Tokens that are carried beside the image's, [B, P, M], from sub-layer to sub-layer, and join it for each.

    So it is where attention looks at windows: their tokens are in places, and nothing else can be among them.
    """

    def __init__(self, value: Callable[[], Tensor]) -> None:
        self._value = value
        self._now: Tensor | None = None

    @property
    def tokens(self) -> Tensor:
        """As far as they came."""
        if self._now is None:
            raise AssertionError("a pass began behind the block where the tokens join")
        return self._now

    def begin(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        """In front of the first block."""
        self._now = self._value().to(args[0].dtype).expand(len(args[0]), -1, -1)

    def end(self, *_: object) -> None:
        """Behind the last block."""
        self._now = None

    def merging(self, norm: nn.Module, layer: nn.Module) -> Callable[..., None]:
        """Each with three like itself."""

        def merge(*_: object) -> None:
            self._now = layer(norm(self.tokens.repeat(1, 1, 4)))

        return merge

    def joining(self, norm: nn.Module) -> Callable[..., Any]:
        """In front of a sub-layer, normalised like what it reads: [B x windows, N, M]."""

        def join(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            images, tokens = args[0], norm(self.tokens)
            spread = tokens.repeat_interleave(len(images) // len(tokens), 0)
            return (_joined(images, spread), *args[1:]), _with_mask_for(kwargs, tokens.shape[1])

        return join

    def leave(self, _: nn.Module, __: object, output: Tensor) -> Tensor:
        """Behind a sub-layer, whose answers are averaged over windows."""
        images, answers = _split(output, self.tokens.shape[1])
        self._now = self.tokens + answers.unflatten(0, (len(self.tokens), -1)).mean(1)
        return images


def _adding_to_windows(backbone: nn.Module, network: Network, edit: Prompts, value: ValueOf) -> Remove:
    carried, part = _Carried(lambda: value(edit.tokens)), backbone.get_submodule
    handles = [
        part(edit.first).register_forward_pre_hook(carried.begin),
        part(edit.last).register_forward_hook(carried.end),
    ]
    for block in network.blocks:
        if merging := network.merging_before(block):
            merge = carried.merging(part(merging.norm), part(merging.layer.name))
            handles.append(part(merging.place).register_forward_pre_hook(merge))
        for site, norm in ((block.attention, norm_before(block.attention.name)), (block.mlp, norm_between(block))):
            handles += [
                part(site.name).register_forward_pre_hook(carried.joining(part(norm)), with_kwargs=True),
                part(site.name).register_forward_hook(carried.leave, prepend=True),
            ]
    paddings = [_padding_bias(part(block.attention.name), lambda: len(value(edit.tokens))) for block in network.blocks]
    return _together(_remover(*handles), *paddings)


def _together(*removes: Remove) -> Remove:
    def remove() -> None:
        for each in removes:
            each()

    return remove


def _remover(*handles: RemovableHandle) -> Remove:
    def remove() -> None:
        for handle in handles:
            handle.remove()

    return remove


def _joined(images: Tensor, tokens: Tensor) -> Tensor:
    """Tokens [P, M] or [B, P, M] behind those of images [B, N, M]: [B, N + P, M]."""
    return torch.cat([images, tokens.to(images.dtype).expand(len(images), -1, -1)], 1)


def _split(joined: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Those of the images, and the last ones, so many."""
    return joined[:, :-tokens], joined[:, -tokens:]


def _with_mask_for(kwargs: dict[str, Any], tokens: int) -> dict[str, Any]:
    """A mask is between windows that were cut apart; everybody sees the tokens."""
    mask = kwargs.get("mask")
    return kwargs if mask is None else kwargs | {"mask": _padded(mask, tokens)}


def _padded(bias: Tensor, tokens: int) -> Tensor:
    """A bias [..., N, N] of attention for so many more tokens: it says nothing of them."""
    return functional.pad(bias, (0, tokens, 0, tokens))
