"""Trains the built-in backbone from nothing and writes its weights, its log and what its model card needs.

The learning rate is constant after a warm-up and falls to zero over the last part of the steps, so that a run that was
stopped can go on towards another number of steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from mimi_edge.builtin import ARCHITECTURE
from mimi_edge.files import whole_file
from mimi_edge.training.families import TimmModel
from mimi_edge.training.pretraining.heads import FactorHeads
from mimi_edge.training.pretraining.images import ImageMaker

LEARNING_RATE = 1.5e-3
WEIGHT_DECAY = 0.05
WARM_UP_STEPS = 200
PATCH = 8
"""Side in pixels of a token of the last stage: patches of 2, halved twice."""


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m mimi_edge.training.pretraining", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, log and snapshots")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--decay", type=float, default=0.3, help="share of the steps over which the rate falls to zero")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=20231107)
    parser.add_argument("--snapshot-every", type=int, default=250)
    return parser.parse_args()


def learning_rate(step: int, steps: int, decay: float) -> float:
    """Warm-up, constant, linear decay to zero."""
    remaining = (steps - step) / max(1.0, steps * decay)
    return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP_STEPS, remaining)


def optimizer_tensors(optimizer: torch.optim.AdamW, names: list[str]) -> dict[str, torch.Tensor]:
    """Both moments of every parameter, by name."""
    states = zip(names, optimizer.param_groups[0]["params"], strict=True)
    return {
        f"{moment}/{name}": optimizer.state[parameter][moment]
        for name, parameter in states
        for moment in ("exp_avg", "exp_avg_sq")
    }


def save_snapshot(path: Path, model: nn.Module, optimizer: torch.optim.AdamW, step: int) -> None:
    """Writes what a stopped run needs to go on."""
    names = [name for name, _ in model.named_parameters()]
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= optimizer_tensors(optimizer, names)
    with whole_file(path) as beside:
        save_file({name: value.contiguous() for name, value in tensors.items()}, beside, {"step": str(step)})


def load_snapshot(path: Path, model: nn.Module, optimizer: torch.optim.AdamW) -> int:
    """Restores a snapshot; returns the step to go on with."""
    tensors = load_file(path)
    with safe_open(path, "pt") as opened:
        step = int(opened.metadata()["step"])
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model/")})
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(step)),
            "exp_avg": tensors[f"exp_avg/{name}"],
            "exp_avg_sq": tensors[f"exp_avg_sq/{name}"],
        }
    return step


def pretrain(options: argparse.Namespace) -> None:
    """Runs the pretraining, going on from the last snapshot where there is one."""
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    maker = ImageMaker(ARCHITECTURE.input_size, options.seed)
    backbone: TimmModel = timm.create_model(ARCHITECTURE.timm_name, num_classes=0, **ARCHITECTURE.arguments)
    _, example = maker.batch(2, 0)
    heads = FactorHeads(backbone.num_features, example.continuous.shape[1], PATCH)
    model = nn.ModuleDict({"backbone": backbone, "heads": heads}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    snapshot = options.out / "snapshot.safetensors"
    first = load_snapshot(snapshot, model, optimizer) if snapshot.exists() else 0
    log = (options.out / "log.jsonl").open("a")
    started = time.monotonic()
    for step in range(first, options.steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, options.steps, options.decay)
        images, factors = maker.batch(options.batch, step)
        with torch.autocast("cpu", torch.bfloat16):
            tokens = backbone.forward_features(images)
            pooled = backbone.forward_head(tokens)
        losses = heads.losses(tokens.float(), pooled.float(), factors)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0 or step + 1 == options.steps:
            entry: dict[str, Any] = {"step": step + 1, "images": (step + 1) * options.batch}
            entry |= {name: round(loss.item(), 4) for name, loss in losses.items()}
            entry["family_accuracy"] = round(heads.family_accuracy(pooled.float(), factors), 4)
            entry["images_per_s"] = round((step + 1 - first) * options.batch / (time.monotonic() - started), 1)
            log.write(json.dumps(entry, allow_nan=False) + "\n")
            log.flush()
            sys.stdout.write(f"{entry}\n")
            sys.stdout.flush()
        if (step + 1) % options.snapshot_every == 0 or step + 1 == options.steps:
            save_snapshot(snapshot, model, optimizer, step + 1)
    half = {name: value.to(torch.float16).contiguous() for name, value in backbone.state_dict().items()}
    save_file(half, options.out / "backbone.safetensors")


if __name__ == "__main__":
    pretrain(arguments())
