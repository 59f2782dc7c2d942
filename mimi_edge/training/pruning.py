"""One pruning: score every living neuron, choose which stay within a limit, strip the others."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mimi_edge.budgets import Budget, CostModel
from mimi_edge.methods.description import Axis, Description
from mimi_edge.scores import Matrices, ScoredAdapter, Scores, score_named
from mimi_edge.selection import Selection, Stages, ranking, select
from mimi_edge.tasks.stores import Floats
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.ranks import as_on_the_first
from mimi_edge.training.score_statistics import LossOfBatch, gather
from mimi_edge.training.strip import strip


def prune(
    model: EditedModel,
    optimizer: torch.optim.Optimizer,
    limit: Budget,
    costs: CostModel,
    config: TrainingConfig,
    loss_of_batch: LossOfBatch,
    stages: Stages | None = None,
) -> Selection:
    """Strips the least important neurons until the rest fits.

    Args:
        model: whose neurons compete.
        optimizer: whose moments follow.
        limit: for this pruning.
        costs: what neurons cost.
        config: names the score and its scope.
        loss_of_batch: the loss of a training batch, by number, in fp32; only some scores ask for it.
        stages: of the sites, where the scope asks for them.
    """
    scores = neuron_scores(model, config, loss_of_batch)
    ranked = ranking(scores, config.scope, stages)
    selection = select(ranked, scores, lambda neurons: costs.cost(neurons).within(limit))
    strip(model, selection.kept, optimizer)
    return selection


def neuron_scores(model: EditedModel, config: TrainingConfig, loss_of_batch: LossOfBatch) -> dict[str, Scores]:
    """The score of every neuron, by site, in the order of the sites."""
    score = score_named(config.score)
    gathered = gather(score.needs, model, loss_of_batch)
    weights = model.weights()

    def scored(axis: Axis) -> Scores:
        down, up = _matrices(axis, model.description)

        def both(values: Mapping[str, Floats]) -> Matrices | None:
            return Matrices(values[down], values[up]) if values else None

        scores = score.of(
            ScoredAdapter(
                site=axis.name,
                weights=Matrices(weights[down], weights[up]),
                seed=config.seed,
                gradient=both(gathered.gradient),
                curvature=both(gathered.curvature),
                activation=gathered.activation.get(down),
            )
        )
        return as_on_the_first(scores)

    return {axis.name: scored(axis) for axis in model.description.axes}


def _matrices(axis: Axis, description: Description) -> tuple[str, str]:
    """Names of the matrices whose columns, and whose rows, are the neurons of an axis."""
    matrices = {dim: name for name, dim in axis.along.items() if len(description.shapes[name]) == 2}
    return matrices[1], matrices[0]
