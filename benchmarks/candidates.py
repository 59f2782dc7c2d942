"""What could beat `--method mimi+` at equal bytes and in as many passes over the images: candidates, side by side.

A line of CSV for each run; the file grows as runs end, and the same command goes on where it stopped. Candidates are to
be judged by the column `val`; `test` is there for what was chosen. Some are options that train has, others are methods
made of the same parts as ours, which live here alone, and one is another start.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from growing_csv import GrowingCsv
from torch import Tensor
from torch.nn import functional

from mimi_edge.choices import MIMI_PLUS, Scope, Store
from mimi_edge.methods.bottlenecks import bottleneck
from mimi_edge.methods.catalogue import add_method
from mimi_edge.methods.description import ZEROS, Axis, Description, Normal, StoredTensor, together
from mimi_edge.methods.edits import Branch, Replace
from mimi_edge.methods.method import Method
from mimi_edge.methods.mimi import MimiSettings
from mimi_edge.methods.network import Layer, Network
from mimi_edge.methods.weights import Frozen, Stored, add, dot
from mimi_edge.profiles.comparison.config import ComparisonConfig, entries_of
from mimi_edge.profiles.comparison.trials import epochs_of, planned_trainings, training_config
from mimi_edge.selection import Selection
from mimi_edge.sites import uniform_neurons
from mimi_edge.training import loop, pruning, rounds, runs
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.prepared_run import prepare
from mimi_edge.training.runs import run_training
from mimi_edge.training.score_statistics import BATCHES

DATASETS = (
    "builtin:digits",
    "builtin:fashion",
    "generated:sprites-location",
    "generated:sprites-orientation",
    "generated:sprites-count",
)
IMAGES_FOR_START = 256
ROWS_FOR_START = 4_000
TEMPERATURE = 2.0
GROWN_SHARE = 5
KEYS = ("data", "train_images", "budget_mb", "candidate", "rate", "seed")
VALUES = ("epochs", "size_bytes", "val", "test")


def _ranks(layer: Layer, ratio: float, std: float) -> Description:
    """A frozen weight gets a product of two thin matrices, the ranks of which are pruned as neurons are."""
    rank = max(1, int(min(layer.inputs, layer.outputs) / ratio))
    into, out_of = f"{layer.name}.lora_a", f"{layer.name}.lora_b"
    tensors = (
        StoredTensor(into, (rank, layer.inputs), Normal(std)),
        StoredTensor(out_of, (layer.outputs, rank), ZEROS),
    )
    becomes = add(Frozen(layer.weight), dot(Stored(out_of), Stored(into)))
    return Description(tensors, (Axis(layer.name, rank, {into: 0, out_of: 1}),), (Replace(layer.weight, becomes),))


def _layers(network: Network) -> Iterator[Layer]:
    for block in network.blocks:
        for place in (block.attention.name, block.mlp.name):
            yield from network.layers(place)


def _lora(network: Network, settings: MimiSettings) -> Description:
    return together(_ranks(layer, settings.start_ratio, std=0.02) for layer in _layers(network))


def _neurons(network: Network, settings: MimiSettings, *, parallel: bool = False) -> Iterator[Description]:
    neurons = uniform_neurons(network.sites, settings.start_ratio)
    for site in network.sites:
        yield bottleneck(site, neurons[site.name], settings.activation, parallel=parallel)


def _in_attention(network: Network, settings: MimiSettings) -> Iterator[Description]:
    for layer in _layers(network):
        if layer.name.endswith("qkv"):
            yield _ranks(layer, settings.start_ratio, std=0.01)


def _attention(network: Network, settings: MimiSettings) -> Description:
    return together(_in_attention(network, settings))


def _both(network: Network, settings: MimiSettings) -> Description:
    return together((*_neurons(network, settings), *_in_attention(network, settings)))


def _beside(network: Network, settings: MimiSettings) -> Description:
    return together(_neurons(network, settings, parallel=True))


def _read_together(network: Network, settings: MimiSettings) -> Iterator[Description]:
    """Both sub-layers of a block are read by the same directions down; each has its own up, and they go together."""
    neurons = uniform_neurons(network.sites, settings.start_ratio)
    for block in network.blocks:
        first, second = (
            bottleneck(site, neurons[site.name], settings.activation) for site in (block.attention, block.mlp)
        )
        (down, up), (_, other_up) = first.tensors, second.tensors
        branches = tuple(
            Branch(site.name, Stored(down.name), Stored(to.name), settings.activation, 1.0)
            for site, to in ((block.attention, up), (block.mlp, other_up))
        )
        axis = Axis(block.attention.name, down.shape[1], {down.name: 1, other_up.name: 0, up.name: 0})
        yield Description((down, up, other_up), (axis,), branches)


def _together(network: Network, settings: MimiSettings) -> Description:
    return together(_read_together(network, settings))


for name, describe in {
    "ranks": _lora,
    "attention-ranks": _attention,
    "neurons-and-ranks": _both,
    "beside": _beside,
    "read-together": _together,
}.items():
    add_method(Method(f"mimi-{name}", f"MiMi {name}", "none", describe, MimiSettings, prunes=True))


@contextmanager
def _principal_start() -> Iterator[None]:
    """Neurons begin as the directions in which what they read varies most, as strong as they would have begun."""
    first_state = runs._state

    def started(run: Any) -> Any:
        model, optimizer, progress = first_state(run)
        images, read = run.images["train"], dict[Branch, Tensor]()
        branches = [edit for edit in model.description.edits if isinstance(edit, Branch)]

        def hear(branch: Branch, _: Any, __: Any, output: Any) -> None:
            tokens = output[0] if isinstance(output, tuple) else output
            read[branch] = tokens.flatten(0, -2)

        hooks = [
            model.backbone.get_submodule(one.place).register_forward_hook(partial(hear, one), prepend=True)
            for one in branches
        ]
        with torch.no_grad():
            model(images.normalised(images.images[torch.arange(min(IMAGES_FOR_START, len(images)))]))
            for branch, tokens in read.items():
                some = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))[:ROWS_FOR_START]
                centred = tokens[some] - tokens.mean(0)
                _, _, directions = torch.linalg.svd(centred, full_matrices=False)
                down = model.tensor(branch.down.name)  # type: ignore[union-attr]
                count = min(down.shape[1], len(directions))
                down[:, :count] = directions[:count].T * directions.shape[1] ** 0.5 * down.std()
        for hook in hooks:
            hook.remove()
        return model, optimizer, progress

    with patch.object(runs, "_state", started):
        yield


@contextmanager
def _one_schedule() -> Iterator[None]:
    """The rate warms up in the first training, for a tenth of the steps of all, and falls over all: no restarts."""
    train_round, learning_rate = loop.train_round, loop.learning_rate
    before, epochs = 0, 1

    def heard(model: Any, optimizer: Any, inputs: Any, config: Any, progress: Any, hooks: Any) -> None:
        nonlocal before, epochs
        before, epochs = sum(inputs.epochs[: progress.place.round]), sum(inputs.epochs)
        train_round(model, optimizer, inputs, config, progress, hooks)

    def rate(config: TrainingConfig, step: int, steps: int, of_training: int) -> float:
        batches, warm = steps // of_training, replace(config, epochs=10, pruning_epochs=None, warm_up_epochs=1)
        return learning_rate(warm, before * batches + step, epochs * batches, 10)

    with patch.object(rounds, "train_round", heard), patch.object(loop, "learning_rate", rate):
        yield


@contextmanager
def _shorter_memory() -> Iterator[None]:
    """AdamW remembers squares of gradients for about a hundred steps instead of a thousand."""
    make_optimizer = loop.make_optimizer

    def made(model: Any, config: TrainingConfig) -> torch.optim.AdamW:
        optimizer = make_optimizer(model, config)
        for group in optimizer.param_groups:
            group["betas"] = (0.9, 0.99)
        return optimizer

    with patch.object(runs, "make_optimizer", made):
        yield


@contextmanager
def _taught() -> Iterator[None]:
    """Each training but the first learns as much from what the one before answered as from the labels.

    G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network (arXiv 1503.02531).
    """
    prune_once, batch_loss, cross_entropy = rounds._prune_once, loop.batch_loss, functional.cross_entropy
    taught: Tensor | None = None

    def heard(run: Any, model: Any, *rest: Any) -> None:
        nonlocal taught
        images = run.images["train"]
        with torch.no_grad():
            parts = torch.arange(len(images)).split(IMAGES_FOR_START)
            taught = torch.cat([model(images.normalised(images.images[part])) for part in parts]).float()
        prune_once(run, model, *rest)

    def both(teacher: Tensor, logits: Tensor, targets: Tensor, **how: Any) -> Tensor:
        soft = functional.log_softmax(teacher / TEMPERATURE, 1)
        own = functional.log_softmax(logits / TEMPERATURE, 1)
        apart = functional.kl_div(own, soft, reduction="batchmean", log_target=True)
        return (cross_entropy(logits, targets, **how) + TEMPERATURE**2 * apart) / 2

    def loss(model: Any, inputs: Any, index: Tensor, *rest: Any) -> Tensor:
        if taught is None:
            return batch_loss(model, inputs, index, *rest)
        with patch.object(functional, "cross_entropy", partial(both, taught[index])):
            return batch_loss(model, inputs, index, *rest)

    with patch.object(rounds, "_prune_once", heard), patch.object(loop, "batch_loss", loss):
        yield


@contextmanager
def _grown_anew() -> Iterator[None]:
    """The worst fifth of what a pruning would keep makes room for neurons that begin anew, where the others are.

    The places of pruned neurons are taken for them, so that sizes follow as ever. After U. Evci et al., Rigging the
    Lottery (arXiv 1911.11134).
    """
    choose, take_away = pruning.select, pruning.strip
    fresh: dict[str, list[int]] = {}

    def chosen(ranked: Any, sites: Any, fits: Any) -> Selection:
        selection = choose(ranked, sites, fits)
        count = sum(selection.neurons.values())
        stay, rest = ranked[: count - count // GROWN_SHARE], ranked[count - count // GROWN_SHARE :]
        kept = {site: [one.index for one in stay if one.site == site] for site in sites}
        free = {site: [one.index for one in reversed(rest) if one.site == site] for site in sites}
        fresh.clear()
        fresh.update({site: [] for site in sites})
        for _ in range(count - len(stay)):
            open_sites = [site for site in sites if kept[site] and len(fresh[site]) < len(free[site])]
            site = max(open_sites, key=lambda one: len(kept[one]) / (1 + len(fresh[one])))
            fresh[site].append(free[site][len(fresh[site])])
        while not fits({site: len(kept[site]) + len(fresh[site]) for site in sites}):
            max(fresh.values(), key=len).pop()
        return replace(selection, kept={site: tuple(sorted(kept[site] + fresh[site])) for site in sites})

    @torch.no_grad()
    def stripped(model: Any, kept: Any, optimizer: Any) -> None:
        for axis in model.description.axes:
            for name, dim in axis.along.items():
                tensor, places = model.tensor(name), torch.tensor(fresh[axis.name], dtype=torch.long)
                first = model.first_values(name, tuple(tensor.shape), seed=len(places))
                tensor.index_copy_(dim, places, first.index_select(dim, places))
                for moment in ("exp_avg", "exp_avg_sq"):
                    optimizer.state[tensor][moment].index_fill_(dim, places, 0)
        take_away(model, kept, optimizer)

    with patch.object(pruning, "select", chosen), patch.object(pruning, "strip", stripped):
        yield


@contextmanager
def _scored_on_validation() -> Iterator[None]:
    """What a score looks at is gathered on images for validation."""
    exact_loss = rounds.exact_loss

    def loss_of(run: Any, model: Any, place: Any) -> Callable[[int], Tensor]:
        return exact_loss(replace(run, images={**run.images, "train": run.images["val"]}), model, place)

    with patch.object(rounds, "exact_loss", loss_of):
        yield


@contextmanager
def _fisher() -> Iterator[None]:
    """A neuron's score is the mean square of what a gate at its output would feel of the loss, batch by batch.

    L. Theis et al. (arXiv 1801.05787). As `--score taylor`, which is the size of the mean, it takes sixteen batches
    more for each pruning, which the passes do not count.
    """

    def scores(model: Any, _: TrainingConfig, loss_of_batch: Callable[[int], Tensor]) -> dict[str, Any]:
        axes = model.description.axes
        ups = [model.tensor(pruning._matrices(axis, model.description)[1]) for axis in axes]
        totals = [torch.zeros(len(up)) for up in ups]
        for number in range(BATCHES):
            slopes = torch.autograd.grad(loss_of_batch(number), ups)
            for total, up, slope in zip(totals, ups, slopes, strict=True):
                total.add_((up.detach() * slope).sum(1) ** 2 / BATCHES)
        return {axis.name: total.numpy() for axis, total in zip(axes, totals, strict=True)}

    with patch.object(pruning, "neuron_scores", scores):
        yield


@contextmanager
def _scored_while_training() -> Iterator[None]:
    """Taylor by the gradients of the steps themselves, in a training's last epoch: no pass more."""
    training_step = loop.training_step
    felt: dict[str, Tensor] = {}
    seen: tuple[int, int] | None = None

    def stepped(model: Any, optimizer: Any, inputs: Any, index: Any, config: Any, place: Any, passes: Any) -> Tensor:
        nonlocal seen
        loss = training_step(model, optimizer, inputs, index, config, place, passes)
        if seen != (place.round, place.epoch):
            seen = (place.round, place.epoch)
            felt.clear()
        for axis in model.description.axes:
            up = model.tensor(pruning._matrices(axis, model.description)[1])
            slopes = (up.detach() * up.grad).sum(1)
            felt[axis.name] = felt.get(axis.name, torch.zeros_like(slopes)) + slopes
        return loss

    def scores(*_: Any) -> dict[str, Any]:
        return {name: total.abs().cpu().numpy() for name, total in felt.items()}

    with patch.object(loop, "training_step", stepped), patch.object(pruning, "neuron_scores", scores):
        yield


@dataclass(frozen=True)
class Candidate:
    """Something to try.

    Attributes:
        method: as `compare` takes it.
        options: entries of the configuration that differ from what `compare` gives it.
        trying: what is done otherwise meanwhile.
    """

    method: str = MIMI_PLUS
    options: Mapping[str, Any] = field(default_factory=dict)
    trying: Callable[[], AbstractContextManager[None]] = nullcontext


CANDIDATES = {
    "mimi+": Candidate(),
    "two bits": Candidate("mimi@int2"),
    "one pruning": Candidate(options={"rho": 0.9}),
    "smaller prunings": Candidate(options={"rho": 0.3}),
    "start ratio 4": Candidate(options={"start_ratio": 4.0}),
    "score snip": Candidate(options={"score": "snip"}),
    "score l1": Candidate(options={"score": "l1"}),
    "score random": Candidate(options={"score": "random"}),
    "score Taylor": Candidate(options={"score": "taylor"}),
    "score Taylor, on validation": Candidate(options={"score": "taylor"}, trying=_scored_on_validation),
    "score Taylor, while training": Candidate(trying=_scored_while_training),
    "score Fisher": Candidate(trying=_fisher),
    "every site loses alike": Candidate(options={"scope": Scope.LOCAL}),
    "rounded in the last training alone": Candidate(options={"round_from": "last"}),
    "beside the sub-layers": Candidate("mimi-beside@int1"),
    "ranks in all weights": Candidate("mimi-ranks@int1", {"start_ratio": 4.0}),
    "ranks in attention": Candidate("mimi-attention-ranks@int1"),
    "neurons and ranks": Candidate("mimi-neurons-and-ranks@int1"),
    "one down-projection for both sub-layers": Candidate("mimi-read-together@int1"),
    "head of four bits": Candidate(options={"head_store": Store.INT4}),
    "head of two bits": Candidate(options={"head_store": Store.INT2}),
    "each training teaches the next": Candidate(trying=_taught),
    "a fifth grown anew": Candidate(trying=_grown_anew),
    "principal start": Candidate(trying=_principal_start),
    "warm-up of a twentieth": Candidate(trying=lambda: patch.object(loop, "FEWEST_WARM_UP_STEPS", 1)),
    "one schedule over all trainings": Candidate(trying=_one_schedule),
    "beta2 of .99": Candidate(trying=_shorter_memory),
    "batch of 16": Candidate(options={"batch_size": 16}),
    "adapters, one bit": Candidate("adapters@int1"),
    "Adapter+, one bit": Candidate("adapter-plus@int1"),
    "LoRA, one bit": Candidate("lora@int1"),
    "MiMi, sixteen bits": Candidate("mimi"),
    "MiMi, sixteen bits, start ratio 4": Candidate("mimi", {"start_ratio": 4.0}),
    "MiMi, sixteen bits, one schedule over all trainings": Candidate("mimi", trying=_one_schedule),
    "MiMi, sixteen bits, every site loses alike": Candidate("mimi", {"scope": Scope.LOCAL}),
    "adapters, sixteen bits": Candidate("adapters"),
    "LoRA, sixteen bits": Candidate("lora"),
}


def main() -> None:
    """Takes all runs that the file has not."""
    options = _options()
    torch.set_num_threads(1)
    lines = GrowingCsv(options.out, KEYS, VALUES)
    for seed, name, data, rate in product(options.seeds, options.candidates, options.data, options.rates):
        key = (data, str(options.train_images or ""), f"{options.budget_mb:g}", name, f"{rate:g}", str(seed))
        if not lines.has(key):
            lines.add(key, _values(key, CANDIDATES[name]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=list(DATASETS))
    parser.add_argument("--train-images", type=int)
    parser.add_argument("--budget-mb", type=float, default=0.03)
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES), metavar="NAME")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.002])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("candidates.csv"))
    return parser.parse_args()


def _values(key: tuple[str, ...], candidate: Candidate) -> tuple[Any, ...]:
    config, epochs = _training(key, candidate)
    with tempfile.TemporaryDirectory() as folder, candidate.trying():
        report = run_training(config, Path(folder) / "run")
    accuracies = (f"{report.accuracy[split].accuracy:.4f}" for split in ("val", "test"))
    return (" ".join(map(str, epochs)), report.cost.size_bytes, *accuracies)


def _training(key: tuple[str, ...], candidate: Candidate) -> tuple[TrainingConfig, tuple[int, ...]]:
    """The run of a candidate, and the epochs of its trainings: together as many as MiMi's in sixteen bits."""
    data, images, budget, _, rate, seed = key
    config = ComparisonConfig(
        methods=(candidate.method,),
        budgets_mb=(float(budget),),
        data=data,
        train_images=int(images) if images else None,
        epochs=1,
    )
    (mimi,) = entries_of(replace(config, methods=("mimi",)))
    config = replace(config, passes=planned_trainings(config, mimi))
    (entry,) = entries_of(config)
    epochs = epochs_of(config, entry, planned_trainings)
    training = training_config(config, entry, epochs=epochs, rate=float(rate), seed=int(seed))
    if entry.method.prunes:
        training = replace(training, **candidate.options)
    return training, prepare(training).epochs


if __name__ == "__main__":
    main()
