"""Tiny backbones of every supported family, random tasks for them, and what torch says about both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import timm
import torch

from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.stores import Floats, Store
from mimi_edge.tasks.task import (
    AdapterWeights,
    HeadWeights,
    SplitAccuracy,
    Task,
    TaskHeader,
    decode_adapters,
    decode_head,
    encode_weights,
)
from mimi_edge.training.backbones import LoadedBackbone, described

FAMILIES = ("vit", "deit", "swin", "swinv2")
PHI = {"gelu": torch.nn.functional.gelu, "relu": torch.relu}
PLAIN = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
# Two blocks in the first stage, because only every second one shifts its windows.
WINDOWS = {
    "img_size": 32,
    "patch_size": 4,
    "window_size": 4,
    "embed_dim": 24,
    "depths": (2, 1),
    "num_heads": (2, 4),
    "num_classes": 0,
}
MODELS = {
    "vit": ("vit_tiny_patch16_224", PLAIN),
    "deit": ("deit_tiny_distilled_patch16_224", PLAIN),
    "swin": ("swin_tiny_patch4_window7_224", WINDOWS),
    "swinv2": ("swinv2_tiny_window8_256", WINDOWS),
}


def tiny_backbone(family: str, seed: int = 0) -> LoadedBackbone:
    name, arguments = MODELS[family]
    torch.manual_seed(seed)
    module = timm.create_model(name, **arguments)
    module.pretrained_cfg |= {"input_size": (3, 32, 32), "crop_pct": 1.0}
    with torch.no_grad():
        for parameter in module.parameters():
            # New models have zero biases and unit norms, which would hide a lost one.
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return described(module.eval().requires_grad_(False), f"tiny {family}")


def random_task(
    backbone: LoadedBackbone,
    neurons: Mapping[str, int],
    *,
    store: Store = Store.FP32,
    classes: int = 5,
    activation: str = "gelu",
    name: str = "sample",
    seed: int = 0,
    accuracy: Mapping[str, SplitAccuracy] | None = None,
) -> Task:
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> Floats:
        return random.standard_normal(shape, np.float32)

    widths = {site.name: site.width for site in backbone.sites}
    adapters = {
        site: AdapterWeights(normal(widths[site], count) * widths[site] ** -0.5, normal(count, widths[site]))
        for site, count in neurons.items()
        if count
    }
    head = HeadWeights(normal(classes, backbone.identity.features), normal(classes))
    names = tuple(f"class {index}" for index in range(classes))
    header = TaskHeader(
        name, backbone.identity, names, backbone.preprocessing, activation, store, accuracy or {}, "0" * 64, {}
    )
    return Task(header, encode_weights(adapters, head, store))


def some_neurons(backbone: LoadedBackbone) -> dict[str, int]:
    """Different numbers at the sites, none at some."""
    return {site.name: (index + 1) * 2 % 5 for index, site in enumerate(backbone.sites)}


def task_file(folder: Path, task: Task) -> Path:
    path = folder / f"{task.header.name}.safetensors"
    write_task(task, path)
    return path


def torch_logits(backbone: LoadedBackbone, task: Task, images: Floats) -> Floats:
    """What torch answers with the weights as they are in the task's file."""
    head = decode_head(task)
    with torch.no_grad(), adapted(backbone, task):
        features = backbone.module(torch.from_numpy(images))
        return (features @ torch.from_numpy(head.weight).T + torch.from_numpy(head.bias)).numpy()


@contextmanager
def adapted(backbone: LoadedBackbone, task: Task) -> Iterator[None]:
    phi = PHI[task.header.activation]

    def hook(weights: AdapterWeights):
        down, up = torch.from_numpy(weights.down), torch.from_numpy(weights.up)
        return lambda _module, _inputs, output: output + phi(output @ down) @ up

    handles = [
        backbone.module.get_submodule(site).register_forward_hook(hook(weights))
        for site, weights in decode_adapters(task).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def random_images(count: int, size: int = 32, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal((count, 3, size, size), np.float32)


def assert_close(got: Floats, expected: Floats, tolerance: float = 1e-4) -> None:
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()
