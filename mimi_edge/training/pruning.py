"""One pruning: score every living neuron, choose which stay within a limit, strip the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from mimi_edge.budgets import Budget, CostModel
from mimi_edge.scores import GRADIENT_SCORES, SCORES, ScoredAdapter, Scores
from mimi_edge.selection import Selection, ranking, select
from mimi_edge.tasks.stores import Floats
from mimi_edge.training.adapters import AdaptedModel
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.stripping import strip

GRADIENT_BATCHES = 16


def prune(
    model: AdaptedModel,
    optimizer: torch.optim.Optimizer,
    limit: Budget,
    costs: CostModel,
    config: TrainingConfig,
    loss_of_batch: Callable[[int], Tensor],
) -> Selection:
    """Strips the least important neurons until the rest fits.

    Args:
        model: whose neurons compete.
        optimizer: whose moments follow.
        limit: for this pruning.
        costs: what neurons cost.
        config: names the score and its scope.
        loss_of_batch: the loss of a training batch, by number; only scores that look at gradients ask for it.
    """
    scores = neuron_scores(model, config, loss_of_batch)
    selection = select(ranking(scores, config.scope), scores, lambda neurons: costs.cost(neurons).within(limit))
    strip(model, selection.kept, optimizer)
    return selection


def neuron_scores(
    model: AdaptedModel, config: TrainingConfig, loss_of_batch: Callable[[int], Tensor]
) -> dict[str, Scores]:
    """The score of every neuron, by site, in the order of the sites."""
    gradients = _gradients(model, loss_of_batch) if config.score in GRADIENT_SCORES else {}
    adapters, _ = model.weights()
    score = SCORES[config.score]
    return {
        site: score(
            ScoredAdapter(
                site=site,
                down=weights.down,
                up=weights.up,
                down_gradient=gradients.get(f"{site}.down", np.zeros_like(weights.down)),
                up_gradient=gradients.get(f"{site}.up", np.zeros_like(weights.up)),
                seed=config.seed,
            )
        )
        for site, weights in adapters.items()
    }


def _gradients(model: AdaptedModel, loss_of_batch: Callable[[int], Tensor]) -> Mapping[str, Floats]:
    """Gradients of the loss summed over the first batches, by name."""
    parameters = model.trained_parameters()
    model.zero_grad(set_to_none=True)
    for number in range(GRADIENT_BATCHES):
        loss_of_batch(number).backward()
    gathered = {
        name: parameter.grad.float().cpu().numpy().copy()
        for name, parameter in parameters.items()
        if parameter.grad is not None
    }
    model.zero_grad(set_to_none=True)
    return gathered
