"""Which weights stay, where a method prunes single weights before training: the best of all places, by |w * g|.

At first every place holds a number. The score of the method says which of them stay; the others never come back. All is
computed in fp32 on the same batches whenever a run begins, so a run that begins again chooses the same.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mimi_edge.methods.description import Places, StoredTensor
from mimi_edge.tasks.stores import Floats
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.ranks import as_on_the_first
from mimi_edge.training.score_statistics import BATCHES, LossOfBatch


def choose_places(model: EditedModel, loss_of_batch: LossOfBatch, seed: int) -> None:
    """Chooses where the numbers of a model stand; one whose method stores all its numbers stays as it is.

    Args:
        model: as training begins.
        loss_of_batch: the loss of a training batch, by number, in fp32.
        seed: of the first weights.
    """
    for tensor in model.description.tensors:
        if isinstance(tensor.first, Places):
            _choose(model, tensor, tensor.first, loss_of_batch, seed)


def _choose(model: EditedModel, mask: StoredTensor, places: Places, loss_of_batch: LossOfBatch, seed: int) -> None:
    kept = model.tensor(places.of)
    everywhere = nn.Parameter(model.first_values(places.of, (1, places.count), seed).to(kept.device))
    model.put(places.of, everywhere)
    model.mark(mask.name, torch.arange(places.count, device=kept.device))
    scores = _scores(places, everywhere, loss_of_batch, seed)
    # Of places that are alike the first stay, on every device: sorted there and here, ties would differ.
    best = torch.from_numpy(np.sort(np.argsort(-scores, kind="stable")[: kept.numel()])).to(kept.device)
    model.mark(mask.name, best)
    model.put(places.of, nn.Parameter(everywhere.detach().reshape(-1)[best].reshape(kept.shape)))


def _scores(places: Places, weights: nn.Parameter, loss_of_batch: LossOfBatch, seed: int) -> Floats:
    match places.by:
        case "random":
            scores: Tensor = torch.rand(places.count, generator=torch.Generator().manual_seed(seed))
        case "magnitude":
            scores = weights.detach().abs()
        case _:
            scores = (weights * _gradient(weights, loss_of_batch)).detach().abs()
    return as_on_the_first(scores.reshape(-1).float().cpu().numpy())


def _gradient(weights: nn.Parameter, loss_of_batch: LossOfBatch) -> Tensor:
    """Of the mean loss of some batches."""
    total = torch.zeros_like(weights)
    for number in range(BATCHES):
        total += torch.autograd.grad(loss_of_batch(number), [weights])[0]
    return total / BATCHES
