"""Counting what a forward pass costs: 2 x multiply-accumulates of linear and convolution layers and of attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class FlopsCount(str, Enum):
    """Which operations count.

    `full` counts linear and convolution layers and the products inside attention (queries by keys, weights by
    values). `paper` gives the figures of the tables of arXiv 2311.03873: it leaves the products inside attention out
    and counts layer normalisations with 5 operations an element, 8.72 GFLOPs for bare Swin-T at 224 pixels.
    """

    FULL = "full"
    PAPER = "paper"


def _linear(result: Tensor, _inputs: Tensor, weight: Tensor, *_: object, **__: object) -> int:
    return 2 * result.numel() * weight.shape[1]


def _convolution(result: Tensor, _inputs: Tensor, weight: Tensor, *_: object, **__: object) -> int:
    return 2 * result.numel() * math.prod(weight.shape[1:])


def _product(result: Tensor, left: Tensor, *_: object, **__: object) -> int:
    return 2 * result.numel() * left.shape[-1]


def _attention(result: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> int:
    return 2 * result.numel() // value.shape[-1] * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _normalisation(result: Tensor, *_: object, **__: object) -> int:
    return 5 * result.numel()


_LAYERS: Mapping[Any, Callable[..., int]] = {functional.linear: _linear, functional.conv2d: _convolution}
_OPERATIONS: Mapping[FlopsCount, Mapping[Any, Callable[..., int]]] = {
    FlopsCount.FULL: {
        **_LAYERS,
        torch.matmul: _product,
        Tensor.matmul: _product,
        Tensor.__matmul__: _product,
        torch.bmm: _product,
        functional.scaled_dot_product_attention: _attention,
    },
    FlopsCount.PAPER: {**_LAYERS, functional.layer_norm: _normalisation},
}


class _Counter(TorchFunctionMode):
    """Watches torch's functions run and adds up what they cost."""

    def __init__(self, count: FlopsCount) -> None:
        super().__init__()
        self.operations = _OPERATIONS[count]
        self.total: int = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if operations := self.operations.get(func):
            self.total += operations(result, *args, **(kwargs or {}))
        return result


def count_flops(module: nn.Module, input_size: int, count: FlopsCount) -> int:
    """Operations of one image through a model.

    Args:
        module: takes images [1, 3, S, S].
        input_size: S, in pixels.
        count: which operations count.
    """
    device = next(module.parameters()).device
    counter = _Counter(count)
    with torch.no_grad(), counter:
        module(torch.zeros(1, 3, input_size, input_size, device=device))
    return counter.total
