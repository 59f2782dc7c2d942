"""What scores look at beside the weights, gathered on training batches: gradients, curvature, activations.

All of it is computed in fp32 and on the same batches whenever a run comes to the same place, so an interrupted run
gathers what an uninterrupted one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mimi_edge.methods.edits import Branch, stored_names
from mimi_edge.scores import Need
from mimi_edge.tasks.stores import Floats
from mimi_edge.training.edited_model import EditedModel

BATCHES = 16
"""So many training batches are looked at, the first of an epoch; small data sets begin again."""

LossOfBatch = Callable[[int], Tensor]


@dataclass(frozen=True)
class Gathered:
    """What was gathered: for what was not asked for, nothing.

    Attributes:
        gradient: of the mean loss, by name of the stored tensor.
        curvature: the Hessian of that loss times its gradient, likewise; of the method's tensors, without the head.
        activation: [N], mean |phi(x @ down)|, by name of each stored tensor of the bottleneck.
    """

    gradient: Mapping[str, Floats] = field(default_factory=dict)
    curvature: Mapping[str, Floats] = field(default_factory=dict)
    activation: Mapping[str, Floats] = field(default_factory=dict)


def gather(need: Need, model: EditedModel, loss_of_batch: LossOfBatch) -> Gathered:
    """Gathers what a score needs; the model is as before.

    Args:
        need: of the score.
        model: that is scored.
        loss_of_batch: the loss of a training batch, by number, in fp32.
    """
    match need:
        case Need.NOTHING:
            return Gathered()
        case Need.GRADIENT:
            return Gathered(gradient=_gradient(model, loss_of_batch))
        case Need.CURVATURE:
            return Gathered(curvature=_curvature(model, loss_of_batch))
        case Need.ACTIVATION:
            return Gathered(activation=_activation(model, loss_of_batch))


def _gradient(model: EditedModel, loss_of_batch: LossOfBatch) -> dict[str, Floats]:
    """g, by a backward pass for each batch."""
    tensors = _tensors(model)
    batches = (torch.autograd.grad(loss_of_batch(number), [*tensors.values()]) for number in range(BATCHES))
    return _arrays(tensors, _mean(batches))


def _curvature(model: EditedModel, loss_of_batch: LossOfBatch) -> dict[str, Floats]:
    """H g, by two backward passes for each batch: H is a mean over batches, g a constant, so H g is one of products."""
    tensors = _tensors(model)
    values = [*tensors.values()]

    def slopes(number: int, *, again: bool) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss_of_batch(number), values, create_graph=again)

    def product(number: int, gradient: Sequence[Tensor]) -> tuple[Tensor, ...]:
        along = [(own * one).sum() for own, one in zip(slopes(number, again=True), gradient, strict=True)]
        return torch.autograd.grad(torch.stack(along).sum(), values)

    # Only plain attention can be differentiated twice.
    with sdpa_kernel(SDPBackend.MATH):
        gradient = _mean(slopes(number, again=False) for number in range(BATCHES))
        products = _mean(product(number, gradient) for number in range(BATCHES))
    return _arrays(tensors, products)


@torch.no_grad()
def _activation(model: EditedModel, loss_of_batch: LossOfBatch) -> dict[str, Floats]:
    """Means over batches, images and tokens, listened to in forward passes."""
    sums: dict[Branch, Tensor] = {}
    counts: dict[Branch, int] = {}

    def hear(edit: Branch, answers: Tensor) -> None:
        rows = answers.abs().flatten(0, -2)
        sums[edit] = sums.get(edit, torch.zeros((), device=rows.device)) + rows.sum(0, dtype=torch.float64)
        counts[edit] = counts.get(edit, 0) + len(rows)

    with model.watched(hear):
        for number in range(BATCHES):
            loss_of_batch(number)
    means = {edit: (total / counts[edit]).float().cpu().numpy() for edit, total in sums.items()}
    return {name: mean for edit, mean in means.items() for name in stored_names(edit)}


def _tensors(model: EditedModel) -> dict[str, Tensor]:
    """The method's own, by name; the head is not pruned, and only its answer matters."""
    return {name: model.tensor(name) for name in model.description.shapes}


def _mean(batches: Iterable[Sequence[Tensor]]) -> list[Tensor]:
    totals: list[Tensor] = []
    for batch in batches:
        values = [one.detach() for one in batch]
        totals = [total + one for total, one in zip(totals, values, strict=True)] if totals else values
    return [total / BATCHES for total in totals]


def _arrays(tensors: Mapping[str, Tensor], values: Sequence[Tensor]) -> dict[str, Floats]:
    return {name: value.cpu().numpy() for name, value in zip(tensors, values, strict=True)}
