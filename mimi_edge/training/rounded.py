"""Training with weights as a task file will keep them: rounded on the way forward, exact for the optimizer."""

from __future__ import annotations

import torch
from torch import Tensor

from mimi_edge.choices import Store
from mimi_edge.tasks.low_bit import levels
from mimi_edge.tasks.task import scaled_axis


def straight_through(name: str, weight: Tensor, store: Store) -> Tensor:
    """A matrix as its store will keep it, in fp32; gradients pass as if nothing had been rounded (Bengio et al., 2013).

    Args:
        name: of the tensor in a task file.
        weight: [R, C]; whatever is no matrix, or is kept in 8 bits and more, is given back as it is.
        store: how it will be kept.
    """
    if not store.low_bits or weight.ndim != 2 or not weight.numel():
        return weight
    exact = weight.detach().float()
    found, scales = levels(exact, scaled_axis(name, tuple(exact.shape), store), store.low_bits, _through_half)
    return weight + (found * scales - exact)


def _through_half(values: Tensor) -> Tensor:
    return values.to(torch.float16).float()
