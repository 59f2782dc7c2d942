"""CvT (arXiv 2103.15808), which timm does not have: transformers' own, dressed as a model of timm's without classifier.

Its forward pass is transformers'. Names of its tensors are those of a full checkpoint of the hub, less the classifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from mimi_edge.images.image_size import ImageSize
from mimi_edge.training.config import PRETRAINED, RANDOM
from mimi_edge.training.families import TimmModel
from mimi_edge.training.hub_weights import fetched_weights
from mimi_edge.training.weight_files import fill

DEPTHS: Mapping[str, tuple[int, int, int]] = MappingProxyType({"cvt_13": (1, 2, 10), "cvt_21": (1, 4, 16)})
"""Blocks of each stage, by name; all else is what transformers takes by itself."""
HUB_NAMES: Mapping[str, str] = MappingProxyType({"cvt_13": "microsoft/cvt-13", "cvt_21": "microsoft/cvt-21"})
INPUT_SIZE = ImageSize(224, 224)
PREPROCESSING: Mapping[str, Any] = MappingProxyType(
    {
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "classifier": "classifier",
    }
)


def cvt(name: str, weights: str, seed: int, image_size: ImageSize | None) -> TimmModel:
    """A CvT by its name; arguments as of `mimi_edge.training.backbones.load_backbone`.

    Raises:
        ArtifactError: the weights do not fit.
        MimiEdgeError: pretrained weights are neither here nor to be had from the network.
    """
    torch.manual_seed(seed)
    module = make_cvt(depth=list(DEPTHS[name]))
    if weights != RANDOM:
        fill(module, fetched_weights(name, HUB_NAMES[name]) if weights == PRETRAINED else Path(weights))
    return with_size(module, image_size or INPUT_SIZE)


def make_cvt(**design: Any) -> TimmModel:
    """One with random weights, of `transformers.CvtConfig`'s arguments."""
    from transformers import CvtConfig

    return with_size(_kind()(CvtConfig(**{"num_labels": 0, **design})), INPUT_SIZE)


def with_size(module: TimmModel, image_size: ImageSize) -> TimmModel:
    """The same for images [B, 3, H, W]: it has no weight that is tied to a size."""
    module.pretrained_cfg = {**PREPROCESSING, "input_size": (3, *image_size)}
    return module


@cache
def _kind() -> Any:
    """The class, once transformers is there."""
    from transformers import CvtForImageClassification

    class Cvt(CvtForImageClassification):
        drops_whole_blocks = True

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.num_features = config.embed_dim[-1]

        def forward(self, images: Tensor) -> Tensor:
            """Features [B, F] of images [B, 3, H, W]."""
            features: Tensor = super().forward(pixel_values=images, return_dict=True).logits
            return features

    return Cvt
