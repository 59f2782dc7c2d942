"""What a task consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.tasks.stores import SCALE, Array, Floats, Store, decode_matrix, encode_matrix, encode_vector

HEAD_WEIGHT = "head.weight"
HEAD_BIAS = "head.bias"
DOWN = ".down"
UP = ".up"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class BackboneIdentity:
    """Which frozen network a task belongs to.

    Attributes:
        name: `builtin` or a timm model's name.
        sha256: of the content of its weights, in fp32, without its classifier.
        features: F, width of its pooled output.
    """

    name: str
    sha256: str
    features: int


@dataclass(frozen=True)
class SplitAccuracy:
    """Top-1 accuracy of the stored weights on one split: a share of 0..1, and over how many images."""

    accuracy: float
    images: int


@dataclass(frozen=True)
class AdapterWeights:
    """One adapter, h + phi(h @ down) @ up, with down [M, N] and up [N, M]."""

    down: Floats
    up: Floats


@dataclass(frozen=True)
class HeadWeights:
    """The classifier, features @ weight.T + bias, with weight [C, F] and bias [C]."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True)
class TaskHeader:
    """Everything about a task but its weights.

    Attributes:
        name: of the task; files made from it are called so.
        backbone: the network it belongs to.
        classes: names in the order of the head's outputs.
        preprocessing: what happens to an image before the backbone sees it.
        activation: phi, `gelu` (exact) or `relu`.
        store: how the weights are kept.
        accuracy: by split (`val`, `test`).
        training_sha256: of the training configuration.
        versions: of the tools that made it, by name.
    """

    name: str
    backbone: BackboneIdentity
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    activation: str
    store: Store
    accuracy: Mapping[str, SplitAccuracy]
    training_sha256: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Task:
    """A task as it lies in its file.

    Attributes:
        header: everything but the weights.
        tensors: by name, in the stored format: `<site>.down` [M, N], `<site>.up` [N, M], `head.weight` [C, F],
            `head.bias` [C]; where the store is int8 also `<site>.down.scale` [N], `<site>.up.scale` [N] and
            `head.weight.scale` [C].
    """

    header: TaskHeader
    tensors: Mapping[str, Array]

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites that have neurons, in the order of their names."""
        return tuple(sorted(name[: -len(DOWN)] for name in self.tensors if name.endswith(DOWN)))

    @property
    def neurons(self) -> dict[str, int]:
        """Neurons at each site that has some."""
        return {site: self.tensors[site + DOWN].shape[1] for site in self.sites}

    @property
    def widths(self) -> dict[str, int]:
        """M of each site that has neurons."""
        return {site: self.tensors[site + DOWN].shape[0] for site in self.sites}


def tensor_shapes(header: TaskHeader, widths: Mapping[str, int], neurons: Mapping[str, int]) -> dict[str, Shape]:
    """Names and shapes of all tensors of a task.

    Args:
        header: of the task.
        widths: M of each site that has neurons.
        neurons: N of each of them.
    """
    classes = len(header.classes)
    shapes: dict[str, Shape] = {HEAD_WEIGHT: (classes, header.backbone.features), HEAD_BIAS: (classes,)}
    for site, count in neurons.items():
        shapes |= {site + DOWN: (widths[site], count), site + UP: (count, widths[site])}
    if header.store is Store.INT8:
        shapes |= {
            name + SCALE: (shape[1] if name.endswith(DOWN) else shape[0],)
            for name, shape in shapes.items()
            if len(shape) == 2
        }
    return shapes


def tensor_dtype(shape: Shape, store: Store) -> np.dtype[np.generic]:
    """Of a tensor of a task: matrices are kept as the store says, vectors are too small to be worth it."""
    return store.weight_dtype if len(shape) == 2 else store.bias_dtype


def encode_weights(adapters: Mapping[str, AdapterWeights], head: HeadWeights, store: Store) -> dict[str, Array]:
    """The tensors of a task file for these weights; adapters without neurons leave none.

    Raises:
        ArtifactError: a weight is not finite, or too large for the store.
    """
    tensors = encode_matrix(HEAD_WEIGHT, head.weight, 0, store) | encode_vector(HEAD_BIAS, head.bias, store)
    for site, adapter in adapters.items():
        if adapter.down.shape[1]:
            tensors |= encode_matrix(site + DOWN, adapter.down, 1, store)
            tensors |= encode_matrix(site + UP, adapter.up, 0, store)
    return tensors


def decode_adapters(task: Task) -> dict[str, AdapterWeights]:
    """The adapters of a task, in fp32, by site."""
    return {
        site: AdapterWeights(decode_matrix(site + DOWN, task.tensors, 1), decode_matrix(site + UP, task.tensors, 0))
        for site in task.sites
    }


def decode_head(task: Task) -> HeadWeights:
    """The head of a task, in fp32."""
    return HeadWeights(decode_matrix(HEAD_WEIGHT, task.tensors, 0), task.tensors[HEAD_BIAS].astype(np.float32))
