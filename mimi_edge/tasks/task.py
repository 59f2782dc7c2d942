"""What a task consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.methods.bottlenecks import DOWN as DOWN  # noqa: PLC0414  (others take it from here)
from mimi_edge.methods.bottlenecks import UP as UP  # noqa: PLC0414
from mimi_edge.methods.description import MASK
from mimi_edge.methods.method import Setting
from mimi_edge.methods.weights import Shape as Shape  # noqa: PLC0414
from mimi_edge.tasks.stores import SCALE, Array, Bits, Floats, Store, decode_matrix, encode_matrix, encode_vector

HEAD_WEIGHT = "head.weight"
HEAD_BIAS = "head.bias"
MIMI = "mimi"


@dataclass(frozen=True)
class MethodChoice:
    """Which method made a task, and its settings, all of them; tasks of earlier releases are MiMi's."""

    name: str = MIMI
    settings: Mapping[str, Setting] = field(default_factory=dict)


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

    def __str__(self) -> str:
        return f"{self.name} ({self.sha256[:12]})"


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
        method: that adapted the network.
        head_store: how the weights of the head are kept, None where that is how the others are.
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
    method: MethodChoice = field(default_factory=MethodChoice)
    head_store: Store | None = None

    def store_of(self, name: str) -> Store:
        """How a tensor is kept."""
        return store_of(name, self.store, self.head_store)


@dataclass(frozen=True)
class Task:
    """A task as it lies in its file.

    Attributes:
        header: everything but the weights.
        tensors: by name, in the stored format: `head.weight` [C, F], `head.bias` [C] and the method's own, which for
            MiMi are `<site>.down` [M, N] and `<site>.up` [N, M]; where the store is int8 also `<matrix>.scale`, a
            number for each neuron of `.down` and for each row of any other matrix; `<name>.mask` are packed bits. Where
            it has fewer bits, levels are unpacked to int8 and scales broadcast, as of `mimi_edge.tasks.low_bit`.
    """

    header: TaskHeader
    tensors: Mapping[str, Array]

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites that have neurons, in the order of their names."""
        return tuple(sorted(name[: -len(DOWN)] for name in self.tensors if name.endswith(DOWN)))

    @property
    def numbers(self) -> int:
        """How many numbers its adapters and its head are; scales of int8 and masks are not among them."""
        return sum(values.size for name, values in self.tensors.items() if not name.endswith((SCALE, MASK)))

    @property
    def neurons(self) -> dict[str, int]:
        """Neurons at each site that has some."""
        return {site: self.tensors[site + DOWN].shape[1] for site in self.sites}

    @property
    def widths(self) -> dict[str, int]:
        """M of each site that has neurons."""
        return {site: self.tensors[site + DOWN].shape[0] for site in self.sites}


def tensor_shapes(header: TaskHeader, adapted: Mapping[str, Shape]) -> dict[str, Shape]:
    """Names and shapes of all tensors of a task.

    Args:
        header: of the task.
        adapted: names and shapes of the method's own, by its description.
    """
    classes = len(header.classes)
    shapes: dict[str, Shape] = {HEAD_WEIGHT: (classes, header.backbone.features), HEAD_BIAS: (classes,), **adapted}
    scales = {name + SCALE: _scale_shape(name, shape, header.store_of(name)) for name, shape in shapes.items()}
    return shapes | {name: shape for name, shape in scales.items() if shape}


def _scale_shape(name: str, shape: Shape, store: Store) -> Shape:
    """Of a tensor's scales; empty where it has none."""
    if len(shape) != 2 or not (store is Store.INT8 or store.low_bits):
        return ()
    axis = scaled_axis(name, shape, store)
    if store is Store.INT8:
        return (shape[axis],)
    return (shape[0], 1) if axis == 0 else (1, shape[1])


def bottleneck_shapes(widths: Mapping[str, int], neurons: Mapping[str, int]) -> dict[str, Shape]:
    """Of the tensors of bottlenecks, down [M, N] and up [N, M], at sites of these widths."""
    shapes: dict[str, Shape] = {}
    for site, count in neurons.items():
        shapes |= {site + DOWN: (widths[site], count), site + UP: (count, widths[site])}
    return shapes


def neuron_axis(name: str) -> int:
    """The axis of a matrix along which its neurons are, or its classes."""
    return 1 if name.endswith(DOWN) else 0


def scaled_axis(name: str, shape: Shape, store: Store) -> int:
    """The axis of a matrix that has one scale for each index: its neurons; with few bits, whatever it has fewer of.

    There a scale is as large as 16 weights, and a matrix [768, 4] would have 768 of them.
    """
    axis = neuron_axis(name)
    return 1 - axis if store.low_bits and shape[axis] > shape[1 - axis] else axis


def store_of(name: str, store: Store, of_head: Store | None) -> Store:
    """How a tensor of a task is kept, whose head may be kept in another way."""
    return of_head if of_head is not None and name.removesuffix(SCALE) in (HEAD_WEIGHT, HEAD_BIAS) else store


def tensor_dtype(name: str, shape: Shape, store: Store) -> np.dtype[np.generic]:
    """Of a tensor of a task: matrices as the store says, vectors are too small to be worth it, masks are bits."""
    if name.endswith(MASK):
        return np.dtype(np.uint8)
    return store.weight_dtype if len(shape) == 2 and not name.endswith(SCALE) else store.bias_dtype


def encode_tensors(weights: Mapping[str, Floats], store: Store, of_head: Store | None = None) -> dict[str, Array]:
    """The tensors of a task for weights in fp32, by name; empty ones leave none.

    Args:
        weights: by name.
        store: how they are kept.
        of_head: how those of the head are kept, if in another way.

    Raises:
        ArtifactError: a weight is not finite, or too large for the store.
    """
    tensors: dict[str, Array] = {}
    for name, values in weights.items():
        own = store_of(name, store, of_head)
        if values.ndim == 2 and values.size:
            tensors |= encode_matrix(name, values, scaled_axis(name, values.shape, own), own)
        elif values.size:
            tensors |= encode_vector(name, values, own)
    return tensors


def decode_tensors(tensors: Mapping[str, Array]) -> dict[str, Floats]:
    """The weights of a task in fp32, by name: what `encode_tensors` kept."""
    others = {name + SCALE for name in tensors} | masks_in(tensors).keys()
    return {name: decode_matrix(name, tensors, neuron_axis(name)) for name in tensors if name not in others}


def masks_in(tensors: Mapping[str, Array]) -> dict[str, Bits]:
    """The packed bits among the tensors of a task, by name."""
    return {name: values.astype(np.uint8) for name, values in tensors.items() if name.endswith(MASK)}


def encode_weights(adapters: Mapping[str, AdapterWeights], head: HeadWeights, store: Store) -> dict[str, Array]:
    """The tensors of a task file for bottlenecks and a head; adapters without neurons leave none.

    Raises:
        ArtifactError: a weight is not finite, or too large for the store.
    """
    weights = {HEAD_WEIGHT: head.weight, HEAD_BIAS: head.bias}
    for site, adapter in adapters.items():
        weights |= {site + DOWN: adapter.down, site + UP: adapter.up}
    return encode_tensors(weights, store)


def decode_adapters(task: Task) -> dict[str, AdapterWeights]:
    """The bottlenecks of a task, in fp32, by site."""
    return {
        site: AdapterWeights(decode_matrix(site + DOWN, task.tensors, 1), decode_matrix(site + UP, task.tensors, 0))
        for site in task.sites
    }


def decode_head(task: Task) -> HeadWeights:
    """The head of a task, in fp32."""
    return HeadWeights(decode_matrix(HEAD_WEIGHT, task.tensors, 0), task.tensors[HEAD_BIAS].astype(np.float32))
