"""Removing neurons for good: rows and columns are sliced away, in the weights and in the optimizer's moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mimi_edge.training.adapters import AdaptedModel

NEURON_AXIS = {"down": 1, "up": 0}


def strip(model: AdaptedModel, kept: Mapping[str, Sequence[int]], optimizer: torch.optim.Optimizer | None) -> None:
    """Leaves only the kept neurons; a site that keeps none loses its module.

    Args:
        model: whose adapters are stripped.
        kept: by site, numbers of the neurons that stay, ascending; a site that is not named keeps all.
        optimizer: whose parameters and moments follow, if there is one.
    """
    for site in model.sites:
        indices = kept.get(site)
        if indices is None or len(indices) == model.neurons[site]:
            continue
        adapter = model.adapter(site)
        for name, axis in NEURON_AXIS.items():
            old: nn.Parameter = getattr(adapter, name)
            index = torch.tensor(indices, dtype=torch.long, device=old.device)
            new = nn.Parameter(old.detach().index_select(axis, index))
            setattr(adapter, name, new)
            if optimizer is not None:
                _follow(optimizer, old, new if len(indices) else None, index, axis)
        if not len(indices):
            model.remove(site)


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
