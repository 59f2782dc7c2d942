"""Tiny backbones of every supported family, their masked reference, and image folders that train in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from mimi_edge.budgets import Budget
from mimi_edge.methods import mimi
from mimi_edge.tasks.stores import Store
from mimi_edge.training import prepared_run
from mimi_edge.training.backbones import LoadedBackbone, described
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.edited_model import EditedModel

PLAIN = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2, "num_classes": 0}
# Two blocks in the first stage, because only every second one shifts its windows.
WINDOWS = {
    "img_size": 32,
    "patch_size": 4,
    "window_size": 4,
    "embed_dim": 12,
    "depths": (2, 1),
    "num_heads": (2, 4),
    "num_classes": 0,
}
FAMILIES = {
    "vit": ("vit_tiny_patch16_224", PLAIN),
    "deit": ("deit_tiny_distilled_patch16_224", PLAIN),
    "swin": ("swin_tiny_patch4_window7_224", WINDOWS),
    "swinv2": ("swinv2_tiny_window8_256", WINDOWS),
}
CLASSES = 5
CLASS_FOLDERS = ("blue", "red")


@contextmanager
def tiny_runs() -> Iterator[None]:
    """Runs take `tiny vit` and its like for names of backbones; timm has nothing that small."""
    known = prepared_run.load_backbone

    def load(name: str, weights: str, **others: Any) -> LoadedBackbone:
        family = name.removeprefix("tiny ")
        return tiny_backbone(family) if family in FAMILIES else known(name, weights, **others)

    prepared_run.load_backbone = load
    try:
        yield
    finally:
        prepared_run.load_backbone = known


def tiny_module(family: str, **changes: object) -> nn.Module:
    name, arguments = FAMILIES[family]
    torch.manual_seed(1)
    module = timm.create_model(name, **{**arguments, **changes})
    module.pretrained_cfg |= {"input_size": (3, 32, 32), "crop_pct": 1.0}
    with torch.no_grad():
        for parameter in module.parameters():
            # New models have zero biases and unit norms, which would hide a lost one.
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval().requires_grad_(False)


def tiny_backbone(family: str) -> LoadedBackbone:
    return described(tiny_module(family), f"tiny {family}")


def random_images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def adapted_model(
    backbone: LoadedBackbone, neurons: Mapping[str, int], classes: int, activation: str = "gelu", seed: int = 0
) -> EditedModel:
    """A backbone with MiMi's adapters of so many neurons at each site."""
    description = mimi.describe(backbone.network, mimi.MimiSettings(activation=activation)).resized(neurons)
    return EditedModel(backbone, description, classes, seed)


def randomised(model: EditedModel, seed: int = 3) -> EditedModel:
    """Fills the adapters: new ones are the identity, and would hide whether they run at all."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


class Masked(nn.Module):
    """The same model written plainly: full-size adapters, some neurons of which are multiplied by zero."""

    def __init__(self, module: nn.Module, model: EditedModel, kept: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.backbone = module
        self.parts: dict[str, nn.Parameter] = {
            name: nn.Parameter(value.detach().clone()) for name, value in model.trained_parameters().items()
        }
        self.masks = {site: torch.zeros(count) for site, count in model.sizes.items()}
        for site, mask in self.masks.items():
            mask[list(kept[site])] = 1

    def forward(self, images: Tensor) -> Tensor:
        with self._hooked():
            features = self.backbone(images)
        return features @ self.parts["head.weight"].T + self.parts["head.bias"]

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        def hook(site: str):
            def run(_module: object, _inputs: object, hidden: Tensor) -> Tensor:
                down, up = self.parts[f"{site}.down"], self.parts[f"{site}.up"]
                return hidden + (functional.gelu(hidden @ down) * self.masks[site]) @ up

            return run

        handles = [self.backbone.get_submodule(site).register_forward_hook(hook(site)) for site in self.masks]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def survivors(self, kept: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        """The weights that a stripped model still has, by name."""
        left = {}
        for name, value in self.parts.items():
            site, _, part = name.rpartition(".")
            if site == "head":
                left[name] = value
            elif len(kept[site]):
                left[name] = value.index_select(1 if part == "down" else 0, torch.tensor(kept[site]))
        return {name: value.detach() for name, value in left.items()}


def write_image_folder(root: Path, counts: Mapping[str, int], side: int = 24) -> Path:
    """Two classes that differ in their tint, every sixth wrongly: most are easily told apart, not all."""
    random = np.random.default_rng(0)
    for split, count in counts.items():
        for label, name in enumerate(CLASS_FOLDERS):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 150, (side, side, 3), dtype=np.uint8)
                tinted = 2 - 2 * label if index % 6 < 5 else 2 * label
                pixels[:, :, tinted] += np.uint8(random.integers(0, 90))
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


def small_config(data: Path, **changes: object) -> TrainingConfig:
    """A run of three trainings in about a second: fp32 adapters from 16 neurons a site down to three or so."""
    options = {
        "budget": Budget(size_bytes=5_000),
        "data": str(data),
        "backbone": "tiny vit",
        "weights": "random",
        "store": Store.FP32,
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "start_ratio": 1.0,
        "rho": 0.5,
        "precision": "fp32",
        "device": "cpu",
    }
    return TrainingConfig(**{**options, **changes})
