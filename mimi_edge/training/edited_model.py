"""A frozen backbone with a method's edits and a new head: what is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mimi_edge.methods.description import MASK, Description, Filled, Normal, Places, Sizes, StoredTensor, Uniform
from mimi_edge.methods.edits import Branch, Edit, Hidden, Prompts, Replace, Side, Tokens
from mimi_edge.methods.weights import Arithmetic, Frozen, Leaf, Stored, Weight, evaluate
from mimi_edge.tasks.stores import Array, Bits, Floats, Store
from mimi_edge.tasks.task import HEAD_BIAS, HEAD_WEIGHT, decode_tensors, encode_tensors, masks_in
from mimi_edge.training.backbones import LoadedBackbone
from mimi_edge.training.checkpointing import recomputing
from mimi_edge.training.hooks import adding_branch, watching_branch
from mimi_edge.training.token_hooks import adding_prompts, adding_tokens

TORCH: Arithmetic = {
    "add": torch.add,
    "mul": torch.mul,
    "dot": torch.matmul,
    "kron": torch.kron,
    "concat": lambda *parts: torch.cat(parts),
    "reshape": lambda weight, sizes: weight.reshape(sizes),
    "transpose": lambda weight: weight.t(),
    "part": lambda weight, rows: weight[rows[0] : rows[1]],
    "scatter": lambda numbers, places, ends: _scattered(numbers, places, *ends),
}
"""The operations of `mimi_edge.methods.weights` on torch's tensors."""


Rounding = Callable[[str, Tensor], Tensor]
"""What a tensor of the task is taken as, by its name."""


class EditedModel(nn.Module):
    """A frozen backbone that does what a description says, and a new head.

    Edits are hooked to the backbone's modules and kept apart from it, so its parameters keep their names; parameters
    that an edit replaces are swapped for each forward pass. What a description does not name costs nothing.

    Args:
        backbone: frozen; it carries this model's hooks until `release` is called.
        description: of the method on this backbone.
        classes: C.
        seed: of the first weights.
    """

    def __init__(self, backbone: LoadedBackbone, description: Description, classes: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.backbone = backbone.module
        self.description = description
        self._own = dict(backbone.module.named_parameters())
        self._family = backbone.family
        self._network = backbone.network
        self._blocks = backbone.blocks
        self._pass = backbone.resumed_pass
        self.stored = nn.ParameterDict()
        self._places = nn.Module()
        for tensor in description.tensors:
            if isinstance(tensor.first, Places):
                self.mark(tensor.name, _any_places(tensor.first, description, generator))
                continue
            self.stored[_key(tensor.name)] = nn.Parameter(self._first(tensor, generator))
        self.head = nn.Linear(backbone.identity.features, classes)
        bound = 1 / math.sqrt(backbone.identity.features)
        nn.init.uniform_(self.head.weight, -bound, bound, generator=generator)
        nn.init.zeros_(self.head.bias)
        self._rounding: Rounding | None = None
        self._hooks: dict[Edit, Callable[[], None]] = {}
        for edit in description.edits:
            self._hook(edit)

    @property
    def sizes(self) -> dict[str, int]:
        """Of the axes that are left, in the order in which they run."""
        return dict(self.description.sizes)

    def tensor(self, name: str) -> nn.Parameter:
        """A tensor of the method, by its name in the task file."""
        tensor: nn.Parameter = self.stored[_key(name)]
        return tensor

    def first_values(self, name: str, shape: tuple[int, ...], seed: int) -> Tensor:
        """What a tensor of the method would begin with, had it this shape."""
        tensor = next(one for one in self.description.tensors if one.name == name)
        return self._first(replace(tensor, shape=shape), torch.Generator().manual_seed(seed))

    @contextmanager
    def rounding_with(self, rounding: Rounding | None) -> Iterator[None]:
        """Meanwhile each pass takes matrices as a task file will keep them; None takes them as they are."""
        self._rounding = rounding
        try:
            yield
        finally:
            self._rounding = None

    def _in_use(self, name: str, parameter: Tensor) -> Tensor:
        return parameter if self._rounding is None else self._rounding(name, parameter)

    def put(self, name: str, parameter: nn.Parameter) -> None:
        """Puts a tensor of another size in the place of one."""
        self.stored[_key(name)] = parameter

    def masks(self) -> dict[str, Bits]:
        """Which places hold a number, as packed bits, by the name they have in a task file; nothing trains them."""
        return {tensor.name: self._mask(tensor) for tensor in self.description.tensors if not tensor.trained}

    def put_mask(self, name: str, mask: Bits) -> None:
        """Says anew which places hold a number."""
        places = torch.from_numpy(np.flatnonzero(np.unpackbits(mask)))
        self.mark(name, places.to(self.head.weight.device))

    def _mask(self, tensor: StoredTensor) -> Bits:
        bits = np.zeros(8 * tensor.shape[0], np.uint8)
        bits[self._places.get_buffer(_key(tensor.name)).cpu().numpy()] = 1
        return np.packbits(bits)

    def mark(self, name: str, places: Tensor) -> None:
        """Says which places hold a number, by where they are, ascending."""
        self._places.register_buffer(_key(name), places)

    def resize(self, sizes: Sizes) -> None:
        """Follows a description whose axes got shorter: edits and tensors that it no longer has are taken out."""
        self.description = self.description.resized(sizes)
        for edit in self._hooks.keys() - set(self.description.edits):
            self._hooks.pop(edit)()
        for key in [key for key in self.stored if _name(key) not in self.description.shapes]:
            del self.stored[key]

    def release(self) -> None:
        """Takes all hooks off the backbone, which is bare again; the model is of no use afterwards."""
        while self._hooks:
            self._hooks.popitem()[1]()

    @contextmanager
    def watched(self, hear: Callable[[Branch, Tensor], None]) -> Iterator[None]:
        """Meanwhile each forward pass tells the answers of every bottleneck's neurons, [..., N]."""
        branches = [edit for edit in self.description.edits if isinstance(edit, Branch)]
        removes = [
            watching_branch(self.backbone, self._family, edit, self._value, partial(hear, edit)) for edit in branches
        ]
        try:
            yield
        finally:
            for remove in removes:
                remove()

    def recomputing(self, generator: torch.Generator | None = None) -> AbstractContextManager[None]:
        """Meanwhile passes keep little of what gradients need; arguments as of `checkpointing.recomputing`."""
        return recomputing(self.backbone, self._blocks, generator)

    @property
    def start(self) -> int:
        """Where a pass can start whose first part was computed before: nothing that is trained runs earlier."""
        return self._pass.exact_start(self._first_trained)

    @property
    def frozen_blocks(self) -> int:
        """How many transformer blocks run before anything that is trained."""
        return self.blocks_before(self._first_trained)

    def blocks_before(self, start: int) -> int:
        """How many transformer blocks a pass does not run that starts there."""
        return sum(self._pass.start_before(block) < start for block in self._blocks)

    def run_before(self, images: Tensor, start: int) -> Tensor:
        """What a pass over images [B, 3, H, W] needs at a start, without gradients."""
        return self._pass.run_before(images, start)

    def run_from(self, tokens: Tensor, start: int) -> Tensor:
        """Runs the backbone from a start, with what `run_before` gave, and the head: logits [B, C]."""
        features = self._pass.run_from(tokens, start, self._replaced())
        for edit in self.description.edits:
            if isinstance(edit, Side):
                features = self._beside(edit, tokens, features)
        for edit in self.description.edits:
            if isinstance(edit, Hidden):
                weight, bias = self._value(edit.weight), self._value(edit.bias)
                features = torch.relu(functional.linear(features, weight, bias))
        return functional.linear(features, self._in_use(HEAD_WEIGHT, self.head.weight), self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C] of images [B, 3, H, W]."""
        return self.run_from(images, 0)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by the name it has in a task file."""
        named = {_name(key): parameter for key, parameter in self.stored.items()}
        return named | {HEAD_WEIGHT: self.head.weight, HEAD_BIAS: self.head.bias}

    @property
    def trained_bytes(self) -> int:
        """Of everything that is trained, and of its gradients."""
        return sum(one.numel() * one.element_size() for one in self.trained_parameters().values())

    def weights(self) -> dict[str, Floats]:
        """The trained weights as fp32 arrays, by the name they have in a task file."""
        return {
            name: parameter.detach().float().cpu().numpy().copy()
            for name, parameter in self.trained_parameters().items()
        }

    def tensors(self, store: Store, of_head: Store | None = None) -> dict[str, Array]:
        """All that a task file keeps of the model, as it keeps it; arguments as of `encode_tensors`.

        Raises:
            ArtifactError: a weight is not finite, or too large for the store.
        """
        return encode_tensors(self.weights(), store, of_head) | self.masks()

    def load_tensors(self, tensors: Mapping[str, Array]) -> None:
        """Becomes what a task file keeps."""
        self.load_weights(decode_tensors(tensors))
        for name, mask in masks_in(tensors).items():
            self.put_mask(name, mask)

    @torch.no_grad()
    def load_weights(self, weights: Mapping[str, Floats]) -> None:
        """Fills the model, whose tensors must be the same, with weights."""
        for name, parameter in self.trained_parameters().items():
            parameter.copy_(torch.from_numpy(weights[name]))

    def _value(self, weight: Weight) -> Tensor:
        """Of an expression, in fp32: in less, a small change of a large weight would vanish."""
        if isinstance(weight, Stored):
            return self._in_use(weight.name, self.tensor(weight.name))
        with torch.autocast(self.head.weight.device.type, enabled=False):
            value: Tensor = evaluate(weight, self._leaf, TORCH)
        return value

    def _leaf(self, leaf: Leaf) -> Tensor:
        if isinstance(leaf, Stored):
            is_mask = leaf.name.endswith(MASK)
            if is_mask:
                return self._places.get_buffer(_key(leaf.name))
            return self._in_use(leaf.name, self.tensor(leaf.name))
        if isinstance(leaf, Frozen):
            return self._own[leaf.name]
        return torch.tensor(leaf.values, device=self.head.weight.device).reshape(leaf.shape)

    def _replaced(self) -> dict[str, Tensor]:
        replacing = [edit for edit in self.description.edits if isinstance(edit, Replace)]
        return {edit.parameter: self._value(edit.becomes) for edit in replacing}

    @property
    def _first_trained(self) -> int:
        return min(map(self._start_before, self.description.edits), default=self._pass.features)

    def _start_before(self, edit: Edit) -> int:
        match edit:
            case Branch() | Tokens():
                return self._pass.start_before(edit.place)
            case Prompts():
                return self._pass.start_before(edit.first)
            case Replace():
                return self._pass.start_before(edit.parameter)
            case Side():
                return 0
            case Hidden():
                return self._pass.features

    def _hook(self, edit: Edit) -> None:
        match edit:
            case Branch():
                self._hooks[edit] = adding_branch(self.backbone, self._family, edit, self._value)
            case Tokens():
                self._hooks[edit] = adding_tokens(self.backbone, edit, self._value)
            case Prompts():
                self._hooks[edit] = adding_prompts(self.backbone, self._network, edit, self._value)

    def _beside(self, edit: Side, images: Tensor, features: Tensor) -> Tensor:
        for layer in edit.convolutions:
            images = functional.conv2d(images, self._value(layer.weight), self._value(layer.bias), layer.stride)
            images = torch.relu(images)
        beside = functional.linear(images.mean((2, 3)), self._value(edit.weight), self._value(edit.bias))
        share = torch.sigmoid(self._value(edit.blend))
        return share * features + (1 - share) * beside

    def _first(self, tensor: StoredTensor, generator: torch.Generator) -> Tensor:
        empty = torch.empty(tensor.shape)
        match tensor.first:
            case Normal(std):
                return empty.normal_(0, std, generator=generator)
            case Uniform(bound):
                return empty.uniform_(-bound, bound, generator=generator)
            case Filled(value):
                return empty.fill_(value)
            case Places():
                raise AssertionError(f"{tensor.name} has places, and no numbers")
        first: Tensor = evaluate(tensor.first, lambda leaf: self._own[_frozen(leaf)], TORCH)
        return first.detach().clone().cpu()


def _any_places(first: Places, description: Description, generator: torch.Generator) -> Tensor:
    """As many as there are numbers, any of them: until somebody chooses."""
    kept = math.prod(description.shapes[first.of])
    return torch.randperm(first.count, generator=generator)[:kept].sort().values


def _scattered(numbers: Tensor, places: Tensor, begin: int, end: int) -> Tensor:
    """Numbers at their places, of which only those from begin to end are made, [end - begin]."""
    first, last = torch.searchsorted(places, torch.tensor((begin, end), device=places.device)).tolist()
    own = numbers.reshape(-1)[first:last]
    return torch.zeros(end - begin, dtype=own.dtype, device=own.device).index_put((places[first:last] - begin,), own)


def _frozen(leaf: Leaf) -> str:
    if not isinstance(leaf, Frozen):
        raise AssertionError(f"first values can only be made of frozen tensors, not of {leaf}")
    return leaf.name


def _key(name: str) -> str:
    """torch allows no dots in the names of parameters."""
    return name.replace(".", "/")


def _name(key: str) -> str:
    return key.replace("/", ".")
