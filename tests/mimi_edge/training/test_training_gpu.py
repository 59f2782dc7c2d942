"""What holds on a GPU: the same answers, a budget met exactly, and a step that never waits for the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training_samples import adapted_model

from mimi_edge.budgets import Budget
from mimi_edge.tasks.files import read_task
from mimi_edge.training.backbones import load_backbone
from mimi_edge.training.batches import DeviceImages, Place
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.devices import autocast, chosen_device
from mimi_edge.training.loop import RoundInputs, make_optimizer, training_step
from mimi_edge.training.runs import run_training

pytestmark = pytest.mark.gpu

BUDGET = Budget(size_bytes=100_000)


@pytest.fixture(autouse=True)
def _torch_sees_it() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is a GPU, and torch sees none: this torch was built without CUDA")


def test_auto_is_the_gpu():
    assert chosen_device("auto").type == "cuda"


def test_a_step_never_waits_for_the_device():
    backbone = load_backbone("builtin", "random")
    device = torch.device("cuda")
    backbone.module.to(device)
    model = adapted_model(backbone, {site.name: 4 for site in backbone.sites}, 3).to(device)
    images = DeviceImages(
        images=torch.randint(0, 255, (16, 3, 32, 32), dtype=torch.uint8, device=device),
        labels=torch.arange(16, device=device) % 3,
        mean=torch.full((3, 1, 1), 127.5, device=device),
        std=torch.full((3, 1, 1), 127.5, device=device),
    )
    config = TrainingConfig(BUDGET)
    inputs = RoundInputs(images, images, None, autocast(device, "auto"), (1,))
    optimizer, index = make_optimizer(model, config), torch.arange(16, device=device)
    training_step(model, optimizer, inputs, index, config, Place(0, 0, 0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        training_step(model, optimizer, inputs, index, config, Place(0, 0, 1))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_gpu_and_cpu_give_the_same_logits():
    backbone = load_backbone("builtin", "random")
    model = adapted_model(backbone, {site.name: 4 for site in backbone.sites}, 3)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
        got = model.cuda()(images.cuda()).cpu()
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_a_run_meets_its_budget(tmp_path: Path):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(12):
            pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.png")
    config = TrainingConfig(BUDGET, data=str(tmp_path / "data"), weights="random", epochs=1, batch_size=8)
    report = run_training(config, tmp_path / "run")
    assert report.task_file.stat().st_size <= 100_000
    assert report.next_neuron is not None
    assert report.next_neuron[1].size_bytes > 100_000
    assert read_task(report.task_file).header.accuracy == report.accuracy
