"""Loading frozen backbones: the built-in one, and any timm model of a supported family."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn

from mimi_edge.builtin import ARCHITECTURE, BACKBONE_NAME, backbone_weights_path
from mimi_edge.errors import ConfigError
from mimi_edge.images.image_size import ImageSize
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.methods.network import Network
from mimi_edge.sites import Site
from mimi_edge.tasks.task import BackboneIdentity
from mimi_edge.training.backbone_choice import SUITED
from mimi_edge.training.config import PRETRAINED, RANDOM
from mimi_edge.training.cvt import DEPTHS, cvt
from mimi_edge.training.families import Family, TimmModel, block_names, family_of, names_like, sub_layer_names
from mimi_edge.training.hub_weights import are_kept, fetched_weights, not_to_be_had
from mimi_edge.training.image_sizes import at_size
from mimi_edge.training.networks import network_of
from mimi_edge.training.resumed_pass import Call, ResumedPass, watched_calls
from mimi_edge.training.supported import similar_names
from mimi_edge.training.weight_files import fill


@dataclass(frozen=True)
class LoadedBackbone:
    """A frozen backbone, ready to be adapted or exported.

    Attributes:
        module: a timm model without classifier, in eval mode, no gradients: [B, 3, H, W] -> [B, F].
        identity: its name, the hash of its content, and F.
        sites: where adapters can go, in the order in which they run.
        preprocessing: what its images need; `preprocessing.size` is H and W.
        family: what is known of its kind.
        calls: of its modules, in one pass.
    """

    module: nn.Module
    identity: BackboneIdentity
    sites: tuple[Site, ...]
    preprocessing: Preprocessing
    family: Family
    calls: Mapping[str, Call]

    @cached_property
    def network(self) -> Network:
        """What methods may know of it."""
        return network_of(self.module, self.family, self.sites, self.calls, self.preprocessing.size)

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """Names of its transformer blocks, in the order in which they run."""
        return self._in_order(block_names(self.module, self.family))

    @cached_property
    def resumed_pass(self) -> ResumedPass:
        """Its forward pass, which can start in the middle."""
        names = names_like(self.module, self.family.links) if self.family.links else self.blocks
        return ResumedPass(self.module, self.calls, self._in_order(names), self.preprocessing.size)

    def _in_order(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted((name for name in names if name in self.calls), key=lambda name: self.calls[name].begin))


def load_backbone(
    name: str, weights: str, *, seed: int = 0, image_size: ImageSize | int | None = None
) -> LoadedBackbone:
    """Makes a backbone and freezes it.

    Args:
        name: `builtin`, or the name of a timm model.
        weights: `pretrained`, `random`, or the path of a safetensors file. The built-in backbone brings its own.
        seed: of random weights.
        image_size: H and W, or the side of a square, if not what it is made for. Position embeddings are resized as
            timm does.

    Raises:
        ConfigError: timm has no such model, its family is not supported, or it cannot be made for that size.
        ArtifactError: the weights do not fit the model.
        MimiEdgeError: pretrained weights are neither here nor to be had from the network.
    """
    build = _builtin if name == BACKBONE_NAME else partial(cvt if name in DEPTHS else _timm_model, name)
    module = build(weights, seed, None if image_size is None else ImageSize.of(image_size))
    module.eval().requires_grad_(False)
    return described(module, name)


def described(module: TimmModel, name: str) -> LoadedBackbone:
    """A frozen timm model with its identity, sites and preprocessing.

    Raises:
        ConfigError: its family is not supported.
    """
    family = family_of(module)
    preprocessing = _preprocessing(module)
    sites, calls = sites_and_calls(module, family, preprocessing.size)
    identity = BackboneIdentity(name, _content_sha256(module, sites), int(module.num_features))
    return LoadedBackbone(module, identity, sites, preprocessing, family, calls)


def _builtin(weights: str, seed: int, image_size: ImageSize | None) -> TimmModel:
    own = ImageSize.of(ARCHITECTURE.input_size)
    configured = {
        "input_size": (3, *own),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    made = partial(timm.create_model, ARCHITECTURE.timm_name, num_classes=0, **ARCHITECTURE.arguments)
    path = backbone_weights_path() if weights == PRETRAINED else Path(weights)
    torch.manual_seed(seed)
    if image_size in (None, own):
        module: TimmModel = made()
        if weights != RANDOM:
            fill(module, path)
    else:
        module = at_size(made, BACKBONE_NAME, image_size, None if weights == RANDOM else path)
        configured["input_size"] = (3, *image_size)
    module.pretrained_cfg |= configured
    return module


def _timm_model(name: str, weights: str, seed: int, image_size: ImageSize | None) -> TimmModel:
    if not timm.is_model(name):
        near = similar_names(name)
        hint = f"Similar: {', '.join(near)}." if near else f"There are, for example: {', '.join(list(SUITED)[:4])}."
        raise ConfigError(f"timm {timm.__version__} has no model called {name!r}. {hint} Check --backbone.")
    source = timm.get_pretrained_cfg(name)
    if weights == PRETRAINED and not (source is not None and source.hf_hub_id and are_kept(source.hf_hub_id)):
        # What cannot be supported need not be waited for.
        family_of(_timm_model(name, RANDOM, seed, image_size))
    torch.manual_seed(seed)
    made = partial(timm.create_model, name, num_classes=0)
    if image_size is None or (source is not None and source.input_size[1:] == tuple(image_size)):
        if weights == PRETRAINED:
            return _pretrained(name, partial(made, pretrained=True))
        module: TimmModel = made()
        if weights != RANDOM:
            fill(module, Path(weights))
        return module
    if weights == PRETRAINED:
        return at_size(partial(_pretrained, name, partial(made, pretrained=True)), name, image_size, None)
    return at_size(made, name, image_size, None if weights == RANDOM else Path(weights))


def _pretrained(name: str, made: Callable[..., TimmModel], **arguments: Any) -> TimmModel:
    source = timm.get_pretrained_cfg(name)
    if source is None or not source.hf_hub_id:
        raise ConfigError(f"timm has no pretrained weights for {name!r}. Give --weights FILE.safetensors.")
    if not source.hf_hub_filename:
        # First and by name, because timm would go on to a pickled file where this one is missing.
        fetched_weights(name, source.hf_hub_id)
    try:
        return made(**arguments)
    except TypeError:  # it takes no such argument
        raise
    except Exception as error:  # timm, its hub client and its transport each raise kinds of their own
        raise not_to_be_had(name, source.hf_hub_id, error) from error


def _preprocessing(module: nn.Module) -> Preprocessing:
    config = resolve_model_data_config(module)
    size = ImageSize(*config["input_size"][1:])
    return Preprocessing(
        size=size,
        resize=ImageSize(*(max(side, math.floor(side / config["crop_pct"])) for side in size)),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def sites_and_calls(
    module: nn.Module, family: Family, input_size: ImageSize
) -> tuple[tuple[Site, ...], dict[str, Call]]:
    """Finds width and tokens of every sub-layer, and when which module runs, by sending one image through."""
    shapes: dict[str, torch.Size] = {}

    def noting(name: str) -> Any:
        def note(_: nn.Module, __: object, output: Any) -> None:
            shapes[name] = family.tokens_of(output).shape

        return note

    names = sub_layer_names(module, family)
    handles = [module.get_submodule(name).register_forward_hook(noting(name)) for name in names]
    calls = watched_calls(module, torch.zeros(1, 3, *input_size))
    for handle in handles:
        handle.remove()
    sites = (Site(name, shapes[name][-1], shapes[name].numel() // shapes[name][-1]) for name in names)
    return tuple(sorted(sites, key=lambda site: calls[site.name].begin)), calls


def _content_sha256(module: nn.Module, sites: tuple[Site, ...]) -> str:
    digest = hashlib.sha256(repr([(site.name, site.width, site.tokens) for site in sites]).encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{list(value.shape)}".encode())
        digest.update(np.ascontiguousarray(value.float().numpy()).data)
    return digest.hexdigest()
