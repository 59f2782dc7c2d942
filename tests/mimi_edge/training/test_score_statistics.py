"""What scores need, against plain torch: the same model written out, differentiated and listened to by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from training_samples import CLASSES, FAMILIES, adapted_model, random_images, randomised, small_config, tiny_backbone

from mimi_edge.scores import Need
from mimi_edge.training import score_statistics
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.pruning import neuron_scores
from mimi_edge.training.score_statistics import gather

NEURONS = {
    "vit": {"blocks.0.attn": 2, "blocks.2.mlp": 3},
    "swin": {"layers.0.blocks.1.attn": 2, "layers.1.blocks.0.mlp": 3},
}
LABELS = torch.tensor([0, 3, 1])
BATCHES = 3


@pytest.fixture(autouse=True)
def _few_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_statistics, "BATCHES", BATCHES)


@dataclass
class Sample:
    """A model with random adapters, and some batches."""

    model: EditedModel

    def loss(self, number: int) -> Tensor:
        return functional.cross_entropy(self.model(random_images(3, seed=number)), LABELS)

    @property
    def tensors(self) -> dict[str, torch.nn.Parameter]:
        return {name: self.model.tensor(name) for name in self.model.description.shapes}


@pytest.fixture(params=sorted(NEURONS))
def sample(request: pytest.FixtureRequest) -> Iterator[Sample]:
    assert request.param in FAMILIES
    model = randomised(adapted_model(tiny_backbone(request.param), NEURONS[request.param], CLASSES))
    yield Sample(model)
    model.release()


def gradient_at(sample: Sample) -> dict[str, Tensor]:
    """Of the mean loss, as a training step would have it."""
    sample.model.zero_grad()
    (sum(sample.loss(number) for number in range(BATCHES)) / BATCHES).backward()
    found = {name: parameter.grad.clone() for name, parameter in sample.tensors.items()}
    sample.model.zero_grad()
    return found


def close(found: NDArray[np.float32], expected: Tensor, tolerance: float = 1e-5) -> None:
    scale = float(expected.detach().abs().max())
    assert scale > 0
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=tolerance * scale, rtol=0)


def test_the_gradient_is_that_of_the_mean_loss(sample: Sample) -> None:
    gathered = gather(Need.GRADIENT, sample.model, sample.loss)
    expected = gradient_at(sample)
    assert gathered.gradient.keys() == expected.keys()
    for name, value in expected.items():
        close(gathered.gradient[name], value)
    assert not gathered.curvature
    assert not gathered.activation


def test_the_hessian_times_the_gradient_is_how_the_gradient_changes_along_itself(sample: Sample) -> None:
    gathered = gather(Need.CURVATURE, sample.model, sample.loss).curvature
    sample.model.double()
    # A step so small that the third derivative does not show, in fp64 so that round-off does not either.
    images = [random_images(3, seed=number).double() for number in range(BATCHES)]
    sample.loss = lambda number: functional.cross_entropy(sample.model(images[number]), LABELS)
    gradient, step = gradient_at(sample), 1e-4

    def moved(by: float) -> dict[str, Tensor]:
        torch._foreach_add_([value.data for value in sample.tensors.values()], [*gradient.values()], alpha=by)
        found = gradient_at(sample)
        torch._foreach_add_([value.data for value in sample.tensors.values()], [*gradient.values()], alpha=-by)
        return found

    forth, back = moved(step), moved(-step)
    for name, value in forth.items():
        close(gathered[name], (value - back[name]) / (2 * step), 1e-4)


def test_activations_are_means_over_tokens_without_the_adapters_own_answer(sample: Sample) -> None:
    gathered = gather(Need.ACTIVATION, sample.model, sample.loss).activation
    for site in sample.model.sizes:
        down = sample.tensors[f"{site}.down"]
        outputs: list[Tensor] = []
        handle = sample.model.backbone.get_submodule(site).register_forward_hook(
            lambda _module, _inputs, output, outputs=outputs: outputs.append(output.detach()), prepend=True
        )
        for number in range(BATCHES):
            sample.loss(number)
        handle.remove()
        hidden = torch.cat([functional.gelu(output @ down).reshape(-1, down.shape[1]) for output in outputs])
        close(gathered[f"{site}.down"], hidden.abs().mean(0))


@pytest.mark.parametrize("need", Need)
def test_gathering_leaves_the_model_as_it_was(sample: Sample, need: Need) -> None:
    before, answer = sample.model.weights(), sample.model(random_images(2))
    gather(need, sample.model, sample.loss)
    assert all(parameter.grad is None for parameter in sample.model.parameters())
    assert all(np.array_equal(value, before[name]) for name, value in sample.model.weights().items())
    assert torch.equal(sample.model(random_images(2)), answer)
    assert sum(len(part._forward_hooks) for part in sample.model.backbone.modules()) == len(sample.model.sizes)


def test_snip_and_grasp_of_neurons_in_plain_torch(sample: Sample) -> None:
    gradient = gradient_at(sample)
    values = [*sample.tensors.values()]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        loss = sum(sample.loss(number) for number in range(BATCHES)) / BATCHES
        first = torch.autograd.grad(loss, values, create_graph=True)
        # Half the derivative of |g|^2 is H g.
        products = torch.autograd.grad(sum((one * one).sum() for one in first) / 2, values)
    curvature = dict(zip(sample.tensors, products, strict=True))
    snip = neuron_scores(sample.model, small_config(Path("nowhere"), score="snip"), sample.loss)
    grasp = neuron_scores(sample.model, small_config(Path("nowhere"), score="grasp"), sample.loss)
    assert snip.keys() == grasp.keys() == sample.model.sizes.keys()
    for site in sample.model.sizes:
        down, up = sample.tensors[f"{site}.down"], sample.tensors[f"{site}.up"]
        close(
            snip[site],
            (down * gradient[f"{site}.down"]).abs().sum(0) + (up * gradient[f"{site}.up"]).abs().sum(1),
        )
        close(grasp[site], (down * curvature[f"{site}.down"]).sum(0) + (up * curvature[f"{site}.up"]).sum(1), 1e-4)


def test_taylor_is_how_the_loss_changes_as_a_neuron_answers_louder(sample: Sample) -> None:
    score = neuron_scores(sample.model, small_config(Path("nowhere"), score="taylor"), sample.loss)
    sample.model.double()
    images = [random_images(3, seed=number).double() for number in range(BATCHES)]
    step = 1e-4

    @torch.no_grad()
    def loss_with(row: Tensor, louder: float) -> float:
        row *= 1 + louder
        loss = sum(float(functional.cross_entropy(sample.model(batch), LABELS)) for batch in images) / BATCHES
        row /= 1 + louder
        return loss

    for site in sample.model.sizes:
        rows = sample.tensors[f"{site}.up"].detach()
        slopes = [(loss_with(row, step) - loss_with(row, -step)) / (2 * step) for row in rows]
        close(score[site], torch.tensor(slopes).abs(), 1e-4)


def test_the_neuron_that_grasp_keeps_is_the_one_without_which_gradients_shrink(sample: Sample) -> None:
    """The sign: d |g|^2 of shrinking a neuron's weights by a hair is -2 eps w (H g)."""
    score = neuron_scores(sample.model, small_config(Path("nowhere"), score="grasp"), sample.loss)
    site, shrunk = next(iter(sample.model.sizes)), 1e-3

    def flow() -> float:
        return sum(float((value.double() ** 2).sum()) for value in gradient_at(sample).values())

    before = flow()
    down, up = sample.tensors[f"{site}.down"], sample.tensors[f"{site}.up"]
    best = int(np.abs(score[site]).argmax())
    with torch.no_grad():
        down[:, best] *= 1 - shrunk
        up[best] *= 1 - shrunk
    assert flow() - before == pytest.approx(-2 * shrunk * score[site][best], rel=0.1)
