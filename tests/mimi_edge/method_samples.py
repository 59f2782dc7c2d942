"""Headers, sites, weights and tasks for tests that need no torch, and how Hypothesis draws them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from hypothesis import strategies as st

from mimi_edge.budgets import CostModel
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.methods import mimi
from mimi_edge.methods.network import Network
from mimi_edge.scores import Scores
from mimi_edge.selection import Neuron
from mimi_edge.sites import Site
from mimi_edge.tasks.stores import Floats, Store
from mimi_edge.tasks.task import (
    AdapterWeights,
    BackboneIdentity,
    HeadWeights,
    SplitAccuracy,
    Task,
    TaskHeader,
    encode_weights,
)

PREPROCESSING = Preprocessing(32, 36, "bicubic", (0.5, 0.25, 0.125), (0.5, 0.5, 0.5))
ODD_NAMES = (
    '"',
    "\\",
    '\\"',
    "🐙🧵",
    "\u202e\u05e9\u05dc\u05d5\u05dd\u202c",
    "née\u0301",
    "\x00",
    "\n",
    "\u2028",
    "a/b",
    "日本",
    "'",
    "{}",
    "",
)
"""Class names that JSON, terminals or eyes may trip over."""


def header_of(
    classes: Iterable[str] = ("cat", "dog", "eel"), *, store: Store = Store.FP32, features: int = 5, name: str = "pets"
) -> TaskHeader:
    return TaskHeader(
        name=name,
        backbone=BackboneIdentity("tiny", "5" * 64, features),
        classes=tuple(classes),
        preprocessing=PREPROCESSING,
        activation="gelu",
        store=store,
        accuracy={"val": SplitAccuracy(0.0, 30), "test": SplitAccuracy(0.0, 1234)},
        training_sha256="a" * 64,
        versions={"mimi-edge": "0.1", "torch": "2.9"},
    )


def random_weights(
    header: TaskHeader, widths: Mapping[str, int], neurons: Mapping[str, int], seed: int = 0
) -> tuple[dict[str, AdapterWeights], HeadWeights]:
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> Floats:
        return random.standard_normal(shape, np.float32)

    adapters = {
        site: AdapterWeights(normal(widths[site], count), normal(count, widths[site]))
        for site, count in neurons.items()
    }
    return adapters, HeadWeights(normal(len(header.classes), header.backbone.features), normal(len(header.classes)))


def sample_task(store: Store = Store.FP32, **options: object) -> Task:
    """A task with neurons at two sites of three."""
    header = header_of(store=store, **options)
    widths = {"blocks.0.attn": 4, "blocks.0.mlp": 6, "blocks.1.attn": 4}
    adapters, head = random_weights(header, widths, {"blocks.0.attn": 3, "blocks.0.mlp": 2, "blocks.1.attn": 0})
    return Task(header, encode_weights(adapters, head, store))


def mimi_costs(header: TaskHeader, sites: Sequence[Site], backbone_flops: int) -> CostModel:
    """What MiMi's tasks cost on a network of which only the sites matter."""
    network = Network(tuple(sites), header.backbone.features)
    return CostModel(header, network, mimi.describe(network, mimi.MimiSettings()), backbone_flops)


def pruned_task(model: CostModel, neurons: Mapping[str, int], accuracy: float = 0.0) -> Task:
    """A task with random weights and so many neurons, as it would be written at the end of a run."""
    header = model.header
    widths = {site.name: site.width for site in model.network.sites}
    adapters, head = random_weights(header, widths, neurons)
    measured = {name: SplitAccuracy(accuracy, value.images) for name, value in header.accuracy.items()}
    filled = TaskHeader(**{**vars(header), "accuracy": measured})
    return Task(filled, encode_weights(adapters, head, header.store))


def class_names() -> st.SearchStrategy[list[str]]:
    text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(ODD_NAMES)
    return st.lists(text, min_size=2, max_size=12, unique=True)


@st.composite
def cost_models(draw: st.DrawFn) -> CostModel:
    """Any backbone, classes, split sizes and store."""
    widths = draw(st.lists(st.integers(1, 24), min_size=1, max_size=6))
    header = header_of(
        draw(class_names()),
        store=draw(st.sampled_from(Store)),
        features=draw(st.integers(1, 20)),
        name=draw(st.sampled_from(("pets", "🐙", 'a "b"'))),
    )
    sites = [
        Site(f"layers.{index}.{'attn' if index % 2 else 'mlp'}", width, draw(st.integers(1, 50)))
        for index, width in enumerate(widths)
    ]
    return mimi_costs(header, sites, draw(st.integers(1, 10**10)))


@st.composite
def scored(draw: st.DrawFn, model: CostModel) -> dict[str, Scores]:
    """Scores for up to 14 neurons at each site, with ties."""
    counts = {site.name: draw(st.integers(1, 14)) for site in model.network.sites}
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return {site: random.integers(0, 9, count).astype(np.float32) / 8 for site, count in counts.items()}


def counted(ranked: Iterable[Neuron]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for neuron in ranked:
        counts[neuron.site] = counts.get(neuron.site, 0) + 1
    return counts
