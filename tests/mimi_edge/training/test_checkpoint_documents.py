"""What stands beside the tensors of a checkpoint may be anything; whoever reads it gets an error of ours."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from mimi_edge.errors import ArtifactError
from mimi_edge.methods.description import Description
from mimi_edge.training.checkpoints import _KEY, _SHA256, _content_sha256, load_checkpoint

WHOLE = {"place": {"round": 0, "epoch": 0, "step": 0}, "history": [], "prunings": [], "updates": 1.0}


def refused(path: Path) -> str:
    nothing: Any = None  # never reached
    with pytest.raises(ArtifactError, match="Delete it to train from the beginning") as caught:
        load_checkpoint(path, nothing, Description(), 2, nothing, torch.device("cpu"))
    assert len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "[]",
        "NaN",
        json.dumps(WHOLE | {"place": [0, 0, 0]}),
        json.dumps(WHOLE | {"place": {"round": 0}}),
        json.dumps(WHOLE | {"updates": "x" * 10_000}),
        json.dumps(WHOLE | {"history": {}}),
        json.dumps(WHOLE | {"threads": [1.5]}),
        json.dumps(WHOLE | {"extra": 1}),
        json.dumps({}),
    ],
    ids=lambda text: text[:30],
)
def test_a_checkpoint_that_states_nonsense_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    tensors = {"x": torch.zeros(1)}
    path.write_bytes(save(tensors, {_KEY: text, _SHA256: _content_sha256(tensors, text)}))
    refused(path)


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "checkpoint.safetensors")
    assert "a pipe" in refused(tmp_path / "checkpoint.safetensors")
