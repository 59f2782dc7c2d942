"""Files of weights: tensors alone, held against the model that they are for before anything is done with them."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mimi_edge.documents import require_regular
from mimi_edge.errors import ArtifactError
from mimi_edge.texts import fault_list
from mimi_edge.training.families import TimmModel

MOST_FAULTS = 10


def fill(module: TimmModel, path: Path) -> None:
    """Fills a model without classifier from a safetensors file that may have one.

    Raises:
        ArtifactError: it cannot be read, or does not hold this model's weights.
    """
    tensors = _checked(module, path, shapes=True)
    module.load_state_dict(tensors)


def require_names(module: TimmModel, path: Path) -> None:
    """Makes sure that a file holds a model's tensors by name; their shapes may be those for another image size.

    Raises:
        ArtifactError: it does not; the first few differences are named.
    """
    _checked(module, path, shapes=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        ArtifactError: it is none.
    """
    try:
        require_regular(path)
        return load_file(path)
    except (OSError, SafetensorError) as error:
        own = error.strerror if isinstance(error, OSError) else None  # else the file would be named once more
        reason = own or str(error).strip().split("\n")[0] or type(error).__name__
        raise ArtifactError(
            f"Cannot read weights from {path}: {reason}. Expected a safetensors file; check --weights."
        ) from error


def _checked(module: TimmModel, path: Path, *, shapes: bool) -> dict[str, Tensor]:
    own, left_out = module.state_dict(), _classifier_names(module)
    # Masks and indices that the model works out itself; checkpoints of older timm releases have them.
    worked_out = {name for name, _ in module.named_buffers()} - own.keys()
    tensors = {
        name: value.float()
        for name, value in read_weights(path).items()
        if not name.startswith(left_out) and name not in worked_out
    }
    faults = [f"{name} is missing" for name in own.keys() - tensors.keys()]
    faults += [f"{name} is unknown" for name in tensors.keys() - own.keys()]
    faults += [
        f"{name}: expected {list(own[name].shape)}, got {list(tensors[name].shape)}"
        for name in own.keys() & tensors.keys()
        if shapes and own[name].shape != tensors[name].shape
    ]
    if faults:
        raise ArtifactError(
            f"{path} does not hold weights of {type(module).__name__}:\n{fault_list(sorted(faults), MOST_FAULTS)}\n"
            "Check --backbone and --weights."
        )
    return tensors


def _classifier_names(module: TimmModel) -> tuple[str, ...]:
    """Beginnings of the names of the classifier's tensors in a full timm checkpoint."""
    named = module.pretrained_cfg.get("classifier") or "head"
    names = (named,) if isinstance(named, str) else tuple(named)
    return tuple(f"{name}." for name in names)
