"""What torch takes to answer: a backbone, bare or with a task's adapters, on the best device there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mimi_edge.images.image_size import ImageSize
from mimi_edge.tasks.files import read_task
from mimi_edge.tasks.stores import Floats
from mimi_edge.training.backbones import load_backbone
from mimi_edge.training.devices import chosen_device, use_threads
from mimi_edge.training.references import adapted_with


def load_torch(threads: int | None = None) -> None:
    """Makes torch ready: its threads, and its context on the GPU where there is one."""
    use_threads(threads)
    torch.zeros(1, device=chosen_device("auto")) @ torch.zeros(1, 1, device=chosen_device("auto"))


def torch_answer(
    backbone: str, weights: str, task_file: Path | None = None, *, seed: int = 0, image_size: ImageSize | None = None
) -> Callable[[Floats], Floats]:
    """A function from images, float32 [B, 3, H, W], to torch's logits [B, C], or to features [B, F] without a task.

    It runs in fp32, on the GPU where there is one, and comes back when the outputs are in the host's memory.

    Args:
        backbone: `builtin`, or a timm model's name.
        weights: as of `load_backbone`.
        task_file: of the task, None for the bare backbone.
        seed: of random weights.
        image_size: H and W of the bare backbone; a task says its own.

    Raises:
        ArtifactError: the task is damaged, or belongs to another backbone.
        MimiEdgeError: the weights are not to be had.
    """
    device = chosen_device("auto")
    task = None if task_file is None else read_task(task_file)
    size = image_size if task is None else task.header.preprocessing.size
    loaded = load_backbone(backbone, weights, seed=seed, image_size=size)
    model = loaded.module if task is None else adapted_with(loaded, task)
    model.to(device).eval()

    @torch.inference_mode()
    def answer(images: Floats) -> Floats:
        outputs: Floats = model(torch.from_numpy(images).to(device)).cpu().numpy()
        return outputs

    return answer
