"""Everything about a run that is known before the first step: data, backbone, costs, rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import timm

from mimi_edge.budgets import Budget, Cost, CostModel, largest_that_fits, require_feasible
from mimi_edge.builtin import BACKBONE_NAME, DATA_PREFIX
from mimi_edge.choices import Scope, Store, own_head_store
from mimi_edge.errors import ConfigError
from mimi_edge.events import Event, Listener, Note, silent
from mimi_edge.images.dataset import Dataset, load_dataset
from mimi_edge.images.limits import learning_from_val
from mimi_edge.images.sources.names import is_at_hand
from mimi_edge.methods.catalogue import method_named
from mimi_edge.methods.description import Description
from mimi_edge.methods.network import Network
from mimi_edge.schedule import Schedule, schedule
from mimi_edge.selection import Stages
from mimi_edge.sites import Neurons
from mimi_edge.tasks.descriptions import method_choice
from mimi_edge.tasks.task import MethodChoice, SplitAccuracy, TaskHeader
from mimi_edge.training.backbone_choice import SUITED
from mimi_edge.training.backbones import LoadedBackbone, load_backbone
from mimi_edge.training.checkpointing import require_recomputable
from mimi_edge.training.config import RANDOM, TrainingConfig, method_settings
from mimi_edge.training.drop_path import drop_path_rates
from mimi_edge.training.flops import FlopsCount, count_flops
from mimi_edge.version import __version__


def measured_splits(config: TrainingConfig) -> tuple[str, ...]:
    """Splits whose accuracy a task file states: those that are not trained on."""
    return ("test",) if config.train_on_val else ("val", "test")


@dataclass(frozen=True)
class Prepared:
    """A run that could begin.

    Attributes:
        config: what was asked for.
        dataset: found, not decoded.
        backbone: loaded and frozen.
        description: of the method on the backbone, as training starts.
        costs: what it will cost.
        schedule: of the prunings.
        stages: of the sites, where they share what stays.
    """

    config: TrainingConfig
    dataset: Dataset
    backbone: LoadedBackbone
    description: Description
    costs: CostModel
    schedule: Schedule
    stages: Stages | None = None

    @cached_property
    def to_decode(self) -> Dataset:
        """The splits as a run decodes them: images for validation may be trained on, too."""
        return learning_from_val(self.dataset) if self.config.train_on_val else self.dataset

    @property
    def start(self) -> Neurons:
        """How long each axis is when training starts, such as neurons at a site."""
        return self.description.sizes

    @property
    def epochs(self) -> tuple[int, ...]:
        """Of each training."""
        return self.schedule.epochs(self.config.epochs, self.config.pruning_epochs, self.config.passes)

    @property
    def start_cost(self) -> Cost:
        """What the task would cost as training starts."""
        return self.costs.cost(self.start)

    @property
    def least_cost(self) -> Cost:
        """What it costs when all that can be pruned is gone."""
        return self.costs.cost({})


def prepare(
    config: TrainingConfig,
    *,
    split: Mapping[str, Any] | None = None,
    start: Neurons | None = None,
    listener: Listener = silent,
) -> Prepared:
    """Loads what a run needs and plans its rounds; nothing is decoded or trained.

    Args:
        config: what was asked for.
        split: a written split to use again.
        start: neurons at each site to start with, instead of `config.start_ratio`.
        listener: hears what was found.

    Raises:
        ConfigError: the data or the options cannot be used.
        BudgetInfeasibleError: not even a task without adapters fits.
    """
    if config.backbone == BACKBONE_NAME and config.data.startswith(DATA_PREFIX):
        listener(
            Note(
                f"Built-in demonstration: {config.data.removeprefix(DATA_PREFIX)} on the small backbone that ships "
                "with mimi-edge. Give --data DIR and --backbone NAME for a task of your own."
            )
        )
    dataset, backbone = _loaded(config, split, listener)
    counts = {name: len(dataset.splits[name]) for name in measured_splits(config)}
    flops = count_flops(backbone.module, backbone.preprocessing.size, FlopsCount(config.flops_count))
    costs = _costs(config, backbone.network, lambda choice: _header(config, dataset, backbone, counts, choice), flops)
    if start is not None:
        costs = replace(costs, description=costs.description.resized(start))
    if config.grad_checkpointing:
        require_recomputable(costs.description, backbone.network)
    planned = _schedule(config, costs)
    prepared = Prepared(config, dataset, backbone, costs.description, costs, planned, _stages(config, backbone.network))
    _require_passes(prepared)
    _note_large_batch(prepared, listener)
    return prepared


def _require_passes(prepared: Prepared) -> None:
    """What an asked number of passes leaves for the last training is known once it is known how often is pruned."""
    shortest, warm_up = min(prepared.epochs), prepared.config.warm_up_epochs
    if prepared.config.passes is not None and warm_up is not None and warm_up >= shortest:
        raise ConfigError(
            f"--warm-up-epochs must be fewer than the {shortest} of the shortest training, got {warm_up}. Give more "
            "--passes, or a shorter warm-up."
        )


def _note_large_batch(prepared: Prepared, listener: Listener) -> None:
    """Few steps learn little, however many images each sees."""
    images, batch = len(prepared.to_decode.splits["train"]), prepared.config.batch_size
    if batch >= images:
        listener(
            Note(
                f"A batch of {batch:,} holds all {images:,} training images, so an epoch is one step. If little is "
                "learned, take a smaller --batch-size, or more --epochs."
            )
        )


def _stages(config: TrainingConfig, network: Network) -> Stages | None:
    if config.scope is not Scope.STAGES:
        return None
    return Stages(network.stages(len(config.stage_shares)), config.stage_shares)


def _costs(
    config: TrainingConfig, network: Network, header: Callable[[MethodChoice], TaskHeader], backbone_flops: int
) -> CostModel:
    """The method as it was asked for, as large as the budget allows where nobody said how large.

    Raises:
        BudgetInfeasibleError: not even the smallest fits.
    """
    method, settings = method_settings(config)

    def costs(chosen: Any) -> CostModel:
        description = method.on(network, chosen)
        return CostModel(header(method_choice(method, chosen)), network, description, backbone_flops)

    if method.leaves_size_open(config.settings):
        most = max(1, max(site.width for site in network.sites) // method.step(settings))
        settings = method.sized(
            settings, largest_that_fits(1, most, lambda steps: _fits(costs(method.sized(settings, steps)), config))
        )
    chosen = costs(settings)
    if method.prunes:
        require_feasible(config.budget, chosen.cost({}))
    else:
        require_feasible(config.budget, chosen.cost(chosen.description.sizes), method.title)
    return chosen


def _fits(costs: CostModel, config: TrainingConfig) -> bool:
    return costs.cost(costs.description.sizes).within(config.budget)


def _loaded(
    config: TrainingConfig, split: Mapping[str, Any] | None, listener: Listener
) -> tuple[Dataset, LoadedBackbone]:
    """Data first, because it is quick to be wrong; what there is to say of it comes after the backbone."""
    remarks: list[Event] = []
    try:
        dataset = load_dataset(
            config.data,
            seed=config.seed,
            skip_bad_images=config.skip_bad_images,
            min_images=config.min_images,
            listener=remarks.append,
            split=split,
            columns=config.data_columns,
            root=config.data_root,
            download=config.download,
            limits=config.limits,
        )
        backbone = load_backbone(config.backbone, config.weights, seed=config.seed, image_size=config.image_size)
        if config.drop_path > 0:
            drop_path_rates(backbone.module, config.drop_path)
        listener(Note(backbone_in_words(config, backbone)))
    finally:
        for remark in remarks:
            listener(remark)
    return dataset, backbone


def backbone_in_words(config: TrainingConfig, backbone: LoadedBackbone) -> str:
    """Name, pixels and weights of a backbone, and whether it is more than a demonstration."""
    size = backbone.preprocessing.size
    said = f"Backbone: {config.backbone}, which sees {size.in_words} pixels; weights: {config.weights}."
    if config.weights == RANDOM:
        said += " Random weights know nothing of images; they are for trying out."
    elif config.backbone == BACKBONE_NAME and not is_at_hand(config.data):
        said += f" It is for trying out; photographs want a larger one, such as --backbone {next(iter(SUITED))}."
    return said


def with_image_counts(prepared: Prepared, counts: Mapping[str, int]) -> Prepared:
    """The same run, for splits of which so many images could be used."""
    choice = prepared.costs.header.method
    header = _header(prepared.config, prepared.dataset, prepared.backbone, counts, choice)
    return replace(prepared, costs=replace(prepared.costs, header=header))


def _schedule(config: TrainingConfig, costs: CostModel) -> Schedule:
    if not method_named(config.method).prunes:
        return Schedule(())
    singles = [costs.cost({axis.name: 1}) for axis in costs.description.axes]
    cheapest = Cost(min(cost.size_bytes for cost in singles), min(cost.flops for cost in singles))
    least = costs.cost({})
    # Where accuracy alone ends a run, it may go as far down as there is something to prune.
    budget = Budget(size_bytes=least.size_bytes) if config.budget.is_open else config.budget
    planned = schedule(budget, costs.cost(costs.description.sizes), least, cheapest, config.rho)
    if config.passes_of is not None:
        return planned.as_long_as(_schedule(replace(config, passes_of=None), _kept_as(config.passes_of, costs)))
    return planned.in_one_shot if config.one_shot else planned


def _kept_as(store: Store, costs: CostModel) -> CostModel:
    return replace(costs, header=replace(costs.header, store=store, head_store=own_head_store(store)))


def _header(
    config: TrainingConfig,
    dataset: Dataset,
    backbone: LoadedBackbone,
    counts: Mapping[str, int],
    method: MethodChoice,
) -> TaskHeader:
    return TaskHeader(
        name=config.name,
        backbone=backbone.identity,
        classes=dataset.classes,
        preprocessing=backbone.preprocessing,
        activation=config.activation,
        store=config.store,
        head_store=own_head_store(config.store, config.head_store),
        accuracy={name: SplitAccuracy(0.0, count) for name, count in counts.items()},
        training_sha256=config.sha256,
        versions={
            "mimi-edge": __version__,
            "torch": version("torch").split("+")[0],
            "timm": timm.__version__,
        },
        method=method,
    )
