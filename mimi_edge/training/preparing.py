"""Everything about a run that is known before the first step: data, backbone, costs, rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import timm

import mimi_edge
from mimi_edge.budgets import Cost, CostModel, require_feasible
from mimi_edge.builtin import BACKBONE_NAME, DATA_PREFIX
from mimi_edge.events import Event, Listener, Note, silent
from mimi_edge.images.dataset import Dataset, load_dataset
from mimi_edge.schedule import Schedule, schedule
from mimi_edge.sites import Neurons, uniform_neurons
from mimi_edge.tasks.task import SplitAccuracy, TaskHeader
from mimi_edge.training.backbones import LoadedBackbone, load_backbone
from mimi_edge.training.choosing import SUITED
from mimi_edge.training.config import RANDOM, TrainingConfig
from mimi_edge.training.counting import FlopsCount, count_flops

MEASURED_SPLITS = ("val", "test")
"""Splits whose accuracy a task file states."""


@dataclass(frozen=True)
class Prepared:
    """A run that could begin.

    Attributes:
        config: what was asked for.
        dataset: found, not decoded.
        backbone: loaded and frozen.
        costs: what neurons will cost.
        start: neurons at each site that training starts with.
        schedule: of the prunings.
    """

    config: TrainingConfig
    dataset: Dataset
    backbone: LoadedBackbone
    costs: CostModel
    start: Neurons
    schedule: Schedule

    @property
    def start_cost(self) -> Cost:
        """What the task would cost with the adapters that training starts with."""
        return self.costs.cost(self.start)

    @property
    def least_cost(self) -> Cost:
        """What it costs without any adapter."""
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
    counts = {name: len(dataset.splits[name]) for name in MEASURED_SPLITS}
    costs = CostModel(
        header=_header(config, dataset, backbone, counts),
        sites=backbone.sites,
        backbone_flops=count_flops(backbone.module, backbone.preprocessing.size, FlopsCount(config.flops_count)),
    )
    neurons = uniform_neurons(backbone.sites, config.start_ratio) if start is None else start
    require_feasible(config.budget, costs.cost({}))
    return Prepared(config, dataset, backbone, costs, neurons, _schedule(config, costs, neurons))


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
        )
        backbone = load_backbone(config.backbone, config.weights, seed=config.seed)
        listener(Note(backbone_in_words(config, backbone)))
    finally:
        for remark in remarks:
            listener(remark)
    return dataset, backbone


def backbone_in_words(config: TrainingConfig, backbone: LoadedBackbone) -> str:
    """Name, pixels and weights of a backbone, and whether it is more than a demonstration."""
    side = backbone.preprocessing.size
    said = f"Backbone: {config.backbone}, which sees {side} x {side} pixels; weights: {config.weights}."
    if config.weights == RANDOM:
        said += " Random weights know nothing of images; they are for trying out."
    elif config.backbone == BACKBONE_NAME and not config.data.startswith(DATA_PREFIX):
        said += f" It is for trying out; photographs want a larger one, such as --backbone {next(iter(SUITED))}."
    return said


def with_image_counts(prepared: Prepared, counts: Mapping[str, int]) -> Prepared:
    """The same run, for splits of which so many images could be used."""
    header = _header(prepared.config, prepared.dataset, prepared.backbone, counts)
    return replace(prepared, costs=replace(prepared.costs, header=header))


def _schedule(config: TrainingConfig, costs: CostModel, start: Neurons) -> Schedule:
    singles = [costs.cost({site.name: 1}) for site in costs.sites]
    cheapest = Cost(min(cost.size_bytes for cost in singles), min(cost.flops for cost in singles))
    return schedule(config.budget, costs.cost(start), costs.cost({}), cheapest, config.rho)


def _header(
    config: TrainingConfig, dataset: Dataset, backbone: LoadedBackbone, counts: Mapping[str, int]
) -> TaskHeader:
    return TaskHeader(
        name=config.name,
        backbone=backbone.identity,
        classes=dataset.classes,
        preprocessing=backbone.preprocessing,
        activation=config.activation,
        store=config.store,
        accuracy={name: SplitAccuracy(0.0, count) for name, count in counts.items()},
        training_sha256=config.sha256,
        versions={
            "mimi-edge": mimi_edge.__version__,
            "torch": version("torch").split("+")[0],
            "timm": timm.__version__,
        },
    )
