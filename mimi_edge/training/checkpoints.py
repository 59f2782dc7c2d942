"""What an interrupted run goes on from: weights, moments and place, in one safetensors file that appears whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mimi_edge.documents import json_value, require_regular, typed
from mimi_edge.errors import ArtifactError
from mimi_edge.files import write_whole
from mimi_edge.methods.description import Description
from mimi_edge.texts import cut
from mimi_edge.training.backbones import LoadedBackbone
from mimi_edge.training.batches import Place
from mimi_edge.training.config import CHECKPOINT_FILE, TrainingConfig
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.loop import EpochLoss, Progress, make_optimizer

NAME = CHECKPOINT_FILE
_KEY = "mimi_edge_checkpoint"
_SHA256 = "sha256"
_WEIGHT, _MASK = "weight/", "mask/"
_MOMENTS = ("exp_avg", "exp_avg_sq")
_LOSS_SUM = "loss/sum"


def save_checkpoint(path: Path, model: EditedModel, optimizer: torch.optim.AdamW, progress: Progress) -> None:
    """Writes where a run stands.

    Raises:
        OSError: it cannot be written; the last checkpoint stays as it is.
    """
    tensors: dict[str, Tensor] = {_LOSS_SUM: progress.loss.sum}
    updates = 0.0
    for name, parameter in model.trained_parameters().items():
        tensors[_WEIGHT + name] = parameter.detach()
        state = optimizer.state.get(parameter, {})
        for moment in _MOMENTS:
            if moment in state:
                tensors[f"{moment}/{name}"] = state[moment]
        updates = float(state.get("step", updates))
    tensors |= {_MASK + name: torch.from_numpy(mask) for name, mask in model.masks().items()}
    document = _document(progress) | {"updates": updates}
    on_cpu = {name: value.cpu().contiguous() for name, value in tensors.items()}
    # As bytes first: safetensors has errors of its own for a full disk.
    text = json.dumps(document, allow_nan=False)
    write_whole(path, save(on_cpu, {_KEY: text, _SHA256: _content_sha256(on_cpu, text)}))


def load_checkpoint(
    path: Path,
    backbone: LoadedBackbone,
    description: Description,
    classes: int,
    config: TrainingConfig,
    device: torch.device,
) -> tuple[EditedModel, torch.optim.AdamW, Progress]:
    """Restores model, optimizer and place.

    Args:
        path: of the checkpoint.
        backbone: that was adapted.
        description: that the run began with.
        classes: C.
        config: of the run.
        device: where it goes on.

    Raises:
        ArtifactError: the file is damaged, or is not a checkpoint of this backbone and task.
    """
    try:
        require_regular(path)
        with safe_open(path, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no dict)
            metadata = opened.metadata()
        if metadata[_SHA256] != _content_sha256(tensors, metadata[_KEY]):
            raise ValueError("its content was altered")
        written = typed(json_value(metadata[_KEY]), _Written)
        return _restored(tensors, written, backbone, description, classes, config, device)
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, RuntimeError) as error:
        said = cut(str(error) or repr(error), 300)
        raise ArtifactError(
            f"{path} is not a whole checkpoint of this run ({said}). Delete it to train from the beginning."
        ) from error


@dataclass(frozen=True)
class _Written:
    """What stands beside the tensors; checkpoints of earlier releases lack all that has a default."""

    place: Place
    history: list[dict[str, Any]]
    prunings: list[dict[str, Any]]
    updates: float
    loss_steps: int = 0
    seconds: float = 0.0
    threads: list[int] = field(default_factory=list)
    computed_in: list[str] = field(default_factory=list)
    stored: list[float] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)


def _restored(
    tensors: dict[str, Tensor],
    written: _Written,
    backbone: LoadedBackbone,
    description: Description,
    classes: int,
    config: TrainingConfig,
    device: torch.device,
) -> tuple[EditedModel, torch.optim.AdamW, Progress]:
    shapes = {name.removeprefix(_WEIGHT): tuple(value.shape) for name, value in tensors.items()}
    left = description.resized(description.sizes_in(shapes))
    model = EditedModel(backbone, left, classes, config.seed).to(device)
    optimizer = make_optimizer(model, config)
    with torch.no_grad():
        for name, parameter in model.trained_parameters().items():
            parameter.copy_(tensors[_WEIGHT + name])
            moments = {moment: tensors.get(f"{moment}/{name}") for moment in _MOMENTS}
            if all(value is not None for value in moments.values()):
                optimizer.state[parameter] = {
                    "step": torch.tensor(written.updates),
                    **{moment: value.to(device) for moment, value in moments.items() if value is not None},
                }
    for name in model.masks():
        model.put_mask(name, tensors[_MASK + name].numpy())
    return model, optimizer, _progress(written, tensors.get(_LOSS_SUM, torch.zeros(())).to(device))


def _document(progress: Progress) -> dict[str, object]:
    return {
        "place": asdict(progress.place),
        "history": progress.history,
        "prunings": progress.prunings,
        "stored": progress.stored,
        "loss_steps": progress.loss.steps,
        "seconds": progress.seconds,
        "threads": progress.threads,
        "computed_in": progress.computed_in,
        "epochs": progress.epochs,
        "epoch_seconds": progress.epoch_seconds,
        "rounds": progress.rounds,
    }


def _progress(written: _Written, loss_sum: Tensor) -> Progress:
    return Progress(
        place=written.place,
        history=written.history,
        prunings=written.prunings,
        stored=written.stored,
        loss=EpochLoss(loss_sum, written.loss_steps),
        seconds=written.seconds,
        threads=written.threads,
        computed_in=written.computed_in,
        epochs=written.epochs,
        epoch_seconds=written.epoch_seconds,
        rounds=written.rounds,
    )


def _content_sha256(tensors: dict[str, Tensor], text: str) -> str:
    """Of everything in the file: a weight that changed on the disk would go unnoticed into the task."""
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}{value.dtype}{list(value.shape)}".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()
