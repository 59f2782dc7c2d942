"""Which backbone a task gets: the one that was named, or one that suits its images."""

from __future__ import annotations

from pathlib import Path

from mimi_edge.builtin import ARCHITECTURE, BACKBONE_NAME
from mimi_edge.errors import ConfigError
from mimi_edge.images.sources.names import is_at_hand, is_named
from mimi_edge.training.config import PRETRAINED
from mimi_edge.training.hub_weights import are_kept

SUITED = {
    "swin_tiny_patch4_window7_224": "timm/swin_tiny_patch4_window7_224.ms_in1k",
    "vit_small_patch16_224": "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
    "deit_small_patch16_224": "timm/deit_small_patch16_224.fb_in1k",
    "swinv2_tiny_window8_256": "timm/swinv2_tiny_window8_256.ms_in1k",
    "vit_tiny_patch16_224": "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "deit_tiny_patch16_224": "timm/deit_tiny_patch16_224.fb_in1k",
    "swin_small_patch4_window7_224": "timm/swin_small_patch4_window7_224.ms_in22k_ft_in1k",
    "vit_base_patch16_224": "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
    "deit_base_patch16_224": "timm/deit_base_patch16_224.fb_in1k",
    "swin_base_patch4_window7_224": "timm/swin_base_patch4_window7_224.ms_in22k_ft_in1k",
}
"""Backbones for photographs, the first choice first, and where timm has their pretrained weights from."""
HUB_PREFIXES = ("hf_hub:", "hf-hub:", "timm/")


def chosen_backbone(asked: str | None, data: str, weights: str = PRETRAINED) -> str:
    """The backbone for a task.

    Args:
        asked: what somebody named, in any of the spellings that users of timm type; None where nobody named one.
        data: as of `TrainingConfig`.
        weights: likewise.

    Raises:
        ConfigError: the data is somebody's own, no backbone is named, and none that suits photographs is on this
            machine.
    """
    if asked is not None:
        return _without_prefixes(asked)
    # What is not there is no reason to talk about backbones: whoever reads the data will say so.
    if is_at_hand(data) or not (is_named(data) or Path(data).expanduser().exists()):
        return BACKBONE_NAME
    if weights == PRETRAINED and (found := _at_hand()) is not None:
        return found
    raise ConfigError(_choices(data))


def _without_prefixes(name: str) -> str:
    for prefix in HUB_PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _at_hand() -> str | None:
    """The first choice of those whose weights the hub's client has fetched before; no network is asked."""
    return next((name for name, repository in SUITED.items() if are_kept(repository)), None)


def _choices(data: str) -> str:
    first, side = next(iter(SUITED)), ARCHITECTURE.input_size
    return (
        f"No backbone is named for {data}. The backbone is the ready-made network that adapters are trained on, and "
        "decides how well this can go. Choose one:\n"
        f"  - for photographs: --backbone {first} --weights {PRETRAINED}\n"
        "    (trained on a million of them, at 224 x 224 pixels; about 110 MB, once from the Hugging Face hub)\n"
        f"  - for a quick try: --backbone {BACKBONE_NAME}\n"
        f"    (small, ships with mimi-edge, and sees no more than {side} x {side} pixels of an image)"
    )
