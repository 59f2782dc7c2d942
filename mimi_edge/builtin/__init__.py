"""The demonstration that ships with the package: a small backbone and two small tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

BACKBONE_NAME = "builtin"
"""What `--backbone` calls the backbone that ships with the package."""
DATA_PREFIX = "builtin:"
"""What the names of built-in data sets begin with."""
DEFAULT_DATA = "builtin:digits"
"""What `--data` means when it is left out."""


@dataclass(frozen=True)
class Architecture:
    """A timm architecture with the arguments that make it small."""

    timm_name: str
    input_size: int
    arguments: Mapping[str, Any]


ARCHITECTURE = Architecture(
    timm_name="swin_tiny_patch4_window7_224",
    input_size=32,
    arguments=MappingProxyType(
        {
            "img_size": 32,
            "patch_size": 2,
            "window_size": 4,
            "embed_dim": 48,
            "depths": (1, 2, 6),
            "num_heads": (1, 3, 6),
        }
    ),
)
"""3.0 M parameters, widths 48, 96 and 192, nine blocks, 18 sites."""


def backbone_weights_path() -> Path:
    """The weights of the built-in backbone: fp16, in safetensors."""
    return Path(__file__).parent / "backbone.safetensors"
