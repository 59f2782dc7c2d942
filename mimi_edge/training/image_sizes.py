"""Backbones that see images of another size than they are made for.

timm builds most designs at any size, and resizes what depends on it (position embeddings, tables of relative positions)
while it loads weights. What it cannot build is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from mimi_edge.errors import ArtifactError, ConfigError, MimiEdgeError
from mimi_edge.images.image_size import ImageSize
from mimi_edge.training.families import TimmModel
from mimi_edge.training.weight_files import require_names

SAFETENSORS = ".safetensors"
LONGEST_REASON = 300


def at_size(made: Callable[..., TimmModel], name: str, image_size: ImageSize, weights: Path | None) -> TimmModel:
    """A model of timm's for images [B, 3, H, W].

    Args:
        made: makes it, given arguments for timm.
        name: of the backbone, for messages.
        image_size: H and W.
        weights: a safetensors file of the same model at any size; None where `made` knows its weights.

    Raises:
        ArtifactError: the file cannot be read, or is of another model.
        ConfigError: the model cannot be made for that size.
    """
    module = _made(made, name, image_size)
    if weights is not None:
        require_names(module, weights)  # timm would pass over what is missing
        module = _made(made, name, image_size, **_from_file(weights))
    module.pretrained_cfg |= {"input_size": (3, *image_size)}
    _require_whole_patches(module, name, image_size)
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, 3, *image_size))
    except Exception as error:  # whatever does not fit, of whatever kind
        raise _refused(name, image_size, error) from error
    return module


def _made(made: Callable[..., TimmModel], name: str, image_size: ImageSize, **arguments: object) -> TimmModel:
    try:
        try:
            return made(img_size=tuple(image_size), **arguments)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            return made(**arguments)  # no weight of this design is tied to a size
    except MimiEdgeError:
        raise
    except Exception as error:  # whatever timm finds wrong, of whatever kind
        raise _refused(name, image_size, error) from error


def _from_file(path: Path) -> dict[str, object]:
    """What tells timm to load and resize a file that was seen to hold tensors alone; others it would unpickle."""
    if path.suffix != SAFETENSORS:
        raise ArtifactError(f"timm, which resizes it, goes by names: call {path} {path.stem}{SAFETENSORS}.")
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path), "hf_hub_id": None, "url": ""}}


def _require_whole_patches(module: TimmModel, name: str, image_size: ImageSize) -> None:
    """timm would leave out what is over, without a word."""
    embedding = getattr(module, "patch_embed", None)
    patch, layer = getattr(embedding, "patch_size", None), getattr(embedding, "proj", None)
    side = patch[0] if isinstance(patch, tuple) else patch
    overlap = isinstance(layer, nn.Conv2d) and layer.kernel_size != layer.stride
    if isinstance(side, int) and not overlap and any(length % side for length in image_size):
        below = [length // side * side for length in image_size]
        above = [length + (side if length < wanted else 0) for length, wanted in zip(below, image_size, strict=True)]
        fitting = " or ".join(str(ImageSize(*lengths)) for lengths in (below, above) if all(lengths))
        raise ConfigError(
            f"{name} sees patches of {side} x {side} pixels, which {image_size} is no multiple of. "
            f"Take --image-size {fitting}."
        )


def _refused(name: str, image_size: ImageSize, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
    another = "another --image-size" if image_size.is_square else f"a square, such as --image-size {image_size.height}"
    return ConfigError(
        f"{name} cannot be made for images of {image_size.in_words} pixels: {reason}. Take {another}, or leave it out."
    )
