"""One pruning: score every living neuron, choose which stay within a limit, strip the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from mimi_edge.budgets import Budget, CostModel
from mimi_edge.methods.description import Axis, Description
from mimi_edge.scores import GRADIENT_SCORES, SCORES, ScoredAdapter, Scores
from mimi_edge.selection import Selection, ranking, select
from mimi_edge.tasks.stores import Floats
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.stripping import strip

GRADIENT_BATCHES = 16


def prune(
    model: EditedModel,
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
    model: EditedModel, config: TrainingConfig, loss_of_batch: Callable[[int], Tensor]
) -> dict[str, Scores]:
    """The score of every neuron, by site, in the order of the sites."""
    gradients = _gradients(model, loss_of_batch) if config.score in GRADIENT_SCORES else {}
    weights = model.weights()
    score = SCORES[config.score]

    def scored(axis: Axis) -> Scores:
        down, up = _matrices(axis, model.description)
        return score(
            ScoredAdapter(
                site=axis.name,
                down=weights[down],
                up=weights[up],
                down_gradient=gradients.get(down, np.zeros_like(weights[down])),
                up_gradient=gradients.get(up, np.zeros_like(weights[up])),
                seed=config.seed,
            )
        )

    return {axis.name: scored(axis) for axis in model.description.axes}


def _matrices(axis: Axis, description: Description) -> tuple[str, str]:
    """Names of the matrices whose columns, and whose rows, are the neurons of an axis."""
    matrices = {dim: name for name, dim in axis.along.items() if len(description.shapes[name]) == 2}
    return matrices[1], matrices[0]


def _gradients(model: EditedModel, loss_of_batch: Callable[[int], Tensor]) -> Mapping[str, Floats]:
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
