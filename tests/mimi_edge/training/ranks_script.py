"""What each process of tests/mimi_edge/training/test_ranks.py runs: several short trainings, one after the other."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from training_samples import small_config, tiny_runs

from mimi_edge.choices import Scope, Store
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.ranks import clock, folder_of_its_own, joined
from mimi_edge.training.runs import run_training

TRAININGS = {
    "plain": {},
    "chance": {
        "augment": "crop+flip+erasing",
        "mixup": 0.8,
        "cutmix": 1.0,
        "drop_path": 0.2,
        "label_smoothing": 0.1,
        "clip_norm": 1.0,
        "balance": True,
        "pruning_epochs": 1,
    },
    "original images, less memory": {
        "augment": "original-crop+flip",
        "drop_path": 0.2,
        "grad_checkpointing": True,
        "epochs": 1,
    },
    "more processes than images in a batch": {"batch_size": 3, "epochs": 1},
    "gradients score": {"score": "snip", "scope": Scope.LOCAL, "epochs": 1},
    "one bit": {"store": Store.INT1, "epochs": 1},
    "replaced weights": {"method": "lora", "settings": {"rank": 1}},
    "tokens": {"method": "vpt-deep", "settings": {"tokens": 2}},
    "places": {"method": "sparse-adapter", "settings": {"neurons": 4}},
    "head alone": {"method": "linear", "weight_decay": 0.0},
}
"""What differs from a small run."""


def config_of(name: str, pictures: Path) -> TrainingConfig:
    """A training by its name."""
    return small_config(pictures, **{"learning_rate": 1e-3} | TRAININGS[name])


def main(pictures: Path, out: Path) -> None:
    """Runs all; the first process keeps them in `out`."""
    torch.set_num_threads(1)
    with tiny_runs(), joined() as rank:
        for name in TRAININGS:
            with nullcontext(out / name) if rank.is_first else folder_of_its_own() as folder:
                run_training(config_of(name, pictures), folder, clock=clock)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
