"""Removing neurons for good: rows and columns are sliced away, in the weights and in the optimizer's moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mimi_edge.training.edited_model import EditedModel


def strip(model: EditedModel, kept: Mapping[str, Sequence[int]], optimizer: torch.optim.Optimizer | None) -> None:
    """Leaves only the kept indices of each axis; an axis that keeps none loses its tensors and edits.

    Args:
        model: which is stripped.
        kept: by axis, such as a site, numbers of the neurons that stay, ascending; one that is not named keeps all.
        optimizer: whose parameters and moments follow, if there is one.
    """
    sizes = model.sizes
    for axis in model.description.axes:
        indices = kept.get(axis.name)
        if indices is None or len(indices) == axis.size:
            continue
        sizes[axis.name] = len(indices)
        for name, dim in axis.along.items():
            old = model.tensor(name)
            index = torch.tensor(indices, dtype=torch.long, device=old.device)
            new = nn.Parameter(old.detach().index_select(dim, index))
            model.put(name, new)
            if optimizer is not None:
                _follow(optimizer, old, new if len(indices) else None, index, dim)
    model.resize(sizes)


def _follow(
    optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter | None, index: torch.Tensor, axis: int
) -> None:
    """Puts a sliced parameter in the old one's place, with its moments sliced alike; None takes it out."""
    for group in optimizer.param_groups:
        group["params"] = [
            new if parameter is old else parameter
            for parameter in group["params"]
            if not (parameter is old and new is None)
        ]
    state = optimizer.state.pop(old, None)
    if state is not None and new is not None:
        optimizer.state[new] = {
            name: value.index_select(axis, index) if torch.is_tensor(value) and value.shape == old.shape else value
            for name, value in state.items()
        }
