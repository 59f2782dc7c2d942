"""What torch answers with a task file's weights: the reference that exports are held against."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mimi_edge.errors import ArtifactError
from mimi_edge.tasks.descriptions import description_of
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import Task
from mimi_edge.training.backbones import LoadedBackbone
from mimi_edge.training.edited_model import EditedModel

BATCH = 32


def adapted_with(backbone: LoadedBackbone, task: Task) -> EditedModel:
    """The torch model of a task; it hooks itself to the backbone until released.

    Raises:
        ArtifactError: the task belongs to another backbone.
    """
    if task.header.backbone.sha256 != backbone.identity.sha256:
        raise ArtifactError(
            f"The task {task.header.name!r} was trained on {task.header.backbone}; this is {backbone.identity}. "
            "Give the --weights that it was trained with."
        )
    model = EditedModel(backbone, description_of(task, backbone.network), len(task.header.classes))
    model.load_tensors(task.tensors)
    return model


def reference_logits(backbone: LoadedBackbone, task: Task) -> Callable[[Floats], Floats]:
    """A function from normalised images [B, 3, H, W] to torch's logits [B, C], in fp32.

    Raises:
        ArtifactError: the task belongs to another backbone.
    """

    @torch.no_grad()
    def logits(images: Floats) -> Floats:
        model = adapted_with(backbone, task)
        try:
            parts = [model(torch.from_numpy(images[start : start + BATCH])) for start in range(0, len(images), BATCH)]
        finally:
            model.release()
        values: Floats = torch.cat(parts).numpy()
        return values

    adapted_with(backbone, task).release()
    return logits
