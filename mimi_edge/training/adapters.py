"""Adapters on a frozen backbone: h' = h + phi(h @ down) @ up at each site with neurons (arXiv 2311.03873, Eq. 1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mimi_edge.sites import Neurons
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import AdapterWeights, HeadWeights
from mimi_edge.training.backbones import LoadedBackbone
from mimi_edge.training.families import chain

FIRST_STD = 0.01
"""Of the first weights, at every site alike: where wide sites start with smaller weights, they lose all competition."""
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"gelu": functional.gelu, "relu": functional.relu}


class Adapter(nn.Module):
    """A bottleneck of N neurons beside a residual; it starts as the identity.

    Args:
        width: M, channels of the site.
        neurons: N, at least 1.
        activation: name of phi.
        generator: draws the first weights.
    """

    def __init__(self, width: int, neurons: int, activation: str, generator: torch.Generator) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(width, neurons).normal_(0, FIRST_STD, generator=generator))
        self.up = nn.Parameter(torch.zeros(neurons, width))
        self.activation = ACTIVATIONS[activation]

    def forward(self, hidden: Tensor) -> Tensor:
        """Adds the bottleneck's answer to tokens [..., M]."""
        return hidden + self.activation(hidden @ self.down) @ self.up


class AdaptedModel(nn.Module):
    """A frozen backbone with adapters at its sites and a new head.

    The adapters are hooked to the backbone's sub-layers and kept apart from it, so its parameters keep their names. A
    site without neurons has neither module nor hook.

    Args:
        backbone: frozen; it carries this model's hooks until `release` is called.
        neurons: how many each site starts with.
        classes: C.
        activation: name of phi.
        seed: of the first weights.
    """

    def __init__(
        self, backbone: LoadedBackbone, neurons: Neurons, classes: int, activation: str = "gelu", seed: int = 0
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.backbone = backbone.module
        self.adapters = nn.ModuleDict()
        self._hooks: dict[str, torch.utils.hooks.RemovableHandle] = {}
        for site in backbone.sites:
            if count := neurons.get(site.name, 0):
                self._add(site.name, Adapter(site.width, count, activation, generator))
        self.head = nn.Linear(backbone.identity.features, classes)
        bound = 1 / math.sqrt(backbone.identity.features)
        nn.init.uniform_(self.head.weight, -bound, bound, generator=generator)
        nn.init.zeros_(self.head.bias)
        self._links = chain(backbone.module)

    def _add(self, site: str, adapter: Adapter) -> None:
        self.adapters[_key(site)] = adapter

        def adapt(_: nn.Module, __: object, output: Tensor) -> Tensor:
            adapted: Tensor = adapter(output)
            return adapted

        self._hooks[site] = self.backbone.get_submodule(site).register_forward_hook(adapt)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites that have neurons, in the order in which they run."""
        return tuple(self._hooks)

    @property
    def neurons(self) -> dict[str, int]:
        """How many neurons each site that has some has."""
        return {site: self.adapter(site).down.shape[1] for site in self.sites}

    def adapter(self, site: str) -> Adapter:
        """The adapter of a site that has one."""
        adapter = self.adapters[_key(site)]
        assert isinstance(adapter, Adapter)  # noqa: S101  (tells the type checker what _add put there)
        return adapter

    def remove(self, site: str) -> None:
        """Takes a site's adapter out of the module tree and out of the forward pass."""
        self._hooks.pop(site).remove()
        del self.adapters[_key(site)]

    def release(self) -> None:
        """Takes all hooks off the backbone, which is bare again; the model is of no use afterwards."""
        for site in self.sites:
            self.remove(site)

    @property
    def prefix_length(self) -> int:
        """How many links of the chain run before anything that is trained."""
        blocks = {site.rsplit(".", 1)[0] for site in self.sites}
        for index, link in enumerate(self._links):
            if link.name in blocks:
                return index
        return len(self._links)

    @property
    def frozen_blocks(self) -> int:
        """How many transformer blocks run before anything that is trained."""
        return sum(link.is_block for link in self._links[: self.prefix_length])

    def run_prefix(self, images: Tensor, length: int) -> Tensor:
        """Runs the first links, which nothing trained depends on, without gradients."""
        with torch.no_grad():
            for link in self._links[:length]:
                images = link.run(images)
        return images

    def run_suffix(self, tokens: Tensor, length: int) -> Tensor:
        """Runs the links after the first `length` and the head: logits [B, C]."""
        for link in self._links[length:]:
            tokens = link.run(tokens)
        logits: Tensor = self.head(tokens)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C] of images [B, 3, S, S]."""
        length = self.prefix_length
        return self.run_suffix(self.run_prefix(images, length), length)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by the name it has in a task file."""
        named: dict[str, nn.Parameter] = {}
        for site in self.sites:
            named[f"{site}.down"], named[f"{site}.up"] = self.adapter(site).down, self.adapter(site).up
        named |= {f"head.{name}": parameter for name, parameter in self.head.named_parameters()}
        return named

    def weights(self) -> tuple[dict[str, AdapterWeights], HeadWeights]:
        """The trained weights as fp32 arrays."""

        def array(parameter: Tensor) -> Floats:
            values: Floats = parameter.detach().float().cpu().numpy().copy()
            return values

        adapters = {
            site: AdapterWeights(array(self.adapter(site).down), array(self.adapter(site).up)) for site in self.sites
        }
        return adapters, HeadWeights(array(self.head.weight), array(self.head.bias))

    @torch.no_grad()
    def load_weights(self, adapters: Mapping[str, AdapterWeights], head: HeadWeights) -> None:
        """Fills the model, whose neurons must be as many, with weights."""
        for site, weights in adapters.items():
            self.adapter(site).down.copy_(torch.from_numpy(weights.down))
            self.adapter(site).up.copy_(torch.from_numpy(weights.up))
        self.head.weight.copy_(torch.from_numpy(head.weight))
        self.head.bias.copy_(torch.from_numpy(head.bias))


def _key(site: str) -> str:
    """torch allows no dots in the names of modules."""
    return site.replace(".", "/")
