"""Images a second of training, at the start ratio (M/N = 1), against what one would write or take instead.

Ours is the product's own step on images that were decoded once. Its peers, in turns with it, each over as many batches:

- plain: worker processes that read JPEG files with Pillow, hooks with adapters of full size, AdamW; in the precision of
  ours.
- plain fp32: the same without autocast, as whoever has not thought of it writes it; TF32 on a GPU. Only where ours is
  in bf16, which it chooses by itself where the hardware has it.
- fed: the same loop, given random tensors that are already there. It has nothing to decode: not to be beaten.
- peft: LoRA of as many trained parameters by the library peft, fed likewise; only where peft is installed.
- full: the whole backbone is trained, fed likewise.
- checkpointed: ours with --grad-checkpointing, which takes more time for less memory.

Adapters compute the same in ours, plain and fed: ours and plain must give the same loss before anything is timed. A
turn is an epoch of so many batches; the workers of plain live on between turns, and begin to read when a turn begins.
With --memory: what a few steps add to the memory of a process of its own, weights and all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import BUDGET_BYTES, CLASSES, Row, compared, parser, show
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from training_step import BACKBONES, LOSS_TOLERANCE, WARM_UP, PlainModel

from mimi_edge.budgets import Budget
from mimi_edge.errors import MimiEdgeError
from mimi_edge.images.dataset import LabelledImages, decode_split, load_dataset
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.methods import mimi
from mimi_edge.profiles.environment import current_environment
from mimi_edge.profiles.latency import measure
from mimi_edge.training.backbones import LoadedBackbone, load_backbone
from mimi_edge.training.batches import Place, on_device
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.devices import autocast, chosen_device, computed_precision
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.loop import RoundInputs, make_optimizer, training_step

WORKERS = 2
PHOTOGRAPH = (320, 240)
GOALS = {"plain": 1 / 1.3, "plain fp32": 1 / 1.3, "fed": 1 / 0.8, "peft": 1.0, "full": 1.0, "checkpointed": 1.0}
"""Most that our time may be of a peer's, on a CPU."""
GPU_GOALS = GOALS | {"plain": 0.5, "plain fp32": 0.5}
MEMORY_GOAL = 1.5
MEMORY_OF = ("ours", "checkpointed", "plain", "full")
STEPS_FOR_MEMORY = 3


def main() -> None:
    """Measures and prints."""
    options = read_options()
    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if options.memory_of:
        print(memory_of(options.memory_of, options))
        return
    if options.memory:
        show_memory(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), options)
        turns = Turns(options, Path(folder))
        samples = measure(turns.all(), rounds=options.rounds, seed=options.seed, warm_up=WARM_UP)
    goals = GPU_GOALS if turns.device.type == "cuda" else GOALS
    rows = [turns.named(compared("ours", peer, samples), goals[peer]) for peer in samples if peer != "ours"]
    show(rows, current_environment(threads=options.threads), as_json=options.json)


def read_options() -> argparse.Namespace:
    """The command line."""
    options = parser(__doc__, rounds=10)
    options.add_argument("--backbone", choices=BACKBONES, default="built-in")
    options.add_argument("--batch", type=int, default=64, help="images in a step (default %(default)s)")
    options.add_argument("--batches", type=int, default=8, help="steps of a turn (default %(default)s)")
    options.add_argument("--threads", type=int, default=2, help="of torch (default %(default)s)")
    options.add_argument("--precision", default="auto", help="auto, fp32 or bf16 (default %(default)s)")
    options.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    options.add_argument("--memory", action="store_true", help="memory of a step instead of time")
    options.add_argument("--memory-of", choices=MEMORY_OF, help=argparse.SUPPRESS)
    return options.parse_args()


class Photographs(Dataset[tuple[Tensor, int]]):
    """JPEG files as a plain loop reads them: Pillow, and arithmetic in numpy."""

    def __init__(self, files: Sequence[Path], preprocessing: Preprocessing) -> None:
        self._files, self._preprocessing = files, preprocessing
        self._classes = sorted({file.parent.name for file in files})

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file, size = self._files[index], self._preprocessing.size
        image = Image.open(file).convert("RGB").resize((size.width, size.height), Image.Resampling.BILINEAR)
        mean, std = (np.array(each, np.float32) for each in (self._preprocessing.mean, self._preprocessing.std))
        pixels = (np.asarray(image, np.float32) / 255 - mean) / std
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), self._classes.index(file.parent.name)


def write_photographs(folder: Path, options: argparse.Namespace) -> None:
    """JPEG files of made-up pictures: as many to train with as a turn takes, and a few of every class to watch."""
    random = np.random.default_rng(options.seed)
    counts = {"train": options.batch * options.batches, "val": 2 * len(CLASSES), "test": 2 * len(CLASSES)}
    for split, count in counts.items():
        for index in range(count):
            place = folder / split / CLASSES[index % len(CLASSES)]
            place.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8))
            coarse.resize(PHOTOGRAPH, Image.Resampling.BICUBIC).save(place / f"{index}.jpg", quality=90)


def show_memory(options: argparse.Namespace) -> None:
    """A table; each line is of a process of its own, because a peak never goes down."""
    given = [value for value in sys.argv[1:] if value != "--memory"]
    found = {}
    for name in MEMORY_OF:
        ran = subprocess.run(
            [sys.executable, __file__, *given, "--memory-of", name], check=True, capture_output=True, text=True
        )
        found[name] = float(ran.stdout.split()[-1])
    print(f"{options.backbone}, batch {options.batch}, start ratio, on {options.device}\n")
    print("| trained | MB | full fine-tuning takes |\n|---|---:|---:|")
    for name, megabytes in found.items():
        print(f"| {name} | {megabytes:.0f} | x {found['full'] / megabytes:.2f} |")
    for name in ("ours", "checkpointed"):
        reached = "reached" if found["full"] / found[name] >= MEMORY_GOAL else "NOT reached"
        print(f"\nGoal x {MEMORY_GOAL}: {reached} by {name}")


def memory_of(name: str, options: argparse.Namespace) -> float:
    """MB that a backbone and a few of its steps add to a process, at the most."""
    turns = Turns(options, Path())
    before = megabytes("VmRSS")
    step = turns.step_of(name)
    for _ in range(STEPS_FOR_MEMORY):
        step()
    if turns.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return megabytes("VmHWM") - before


def megabytes(entry: str) -> float:
    """What Linux says of this process: `VmRSS` now, `VmHWM` at the most."""
    status = Path(f"/proc/{os.getpid()}/status").read_text("ascii")
    return int(next(line for line in status.splitlines() if line.startswith(entry)).split()[1]) * 1024 / 1e6


class Turns:
    """What is timed: so many steps of each way to train."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.name = BACKBONES[options.backbone]
        self.device = chosen_device(options.device)
        self.config = TrainingConfig(
            Budget(size_bytes=BUDGET_BYTES),
            str(folder),
            backbone=self.name,
            batch_size=options.batch,
            precision=options.precision,
        )
        self.autocast = autocast(self.device, self.config.precision)

    def all(self) -> dict[str, Callable[[], object]]:
        """By name; the three that train the same adapters were seen to give the same loss."""
        weights = self._plain().weights(self._widths)
        pixels, labels = self._random()
        turns = {"ours": self._ours(weights), "plain": self._by_workers(self.autocast)}
        if computed_precision(self.device, self.config.precision) == "bf16":
            turns["plain fp32"] = self._by_workers(autocast(self.device, "fp32"))
        turns["checkpointed"] = self._ours(weights, checkpointing=True)
        for name, model in {"fed": self._plain(), **self._others()}.items():
            turns[name] = partial(self._fed, model, self._optimizer(model), pixels, labels)
        return turns

    def named(self, row: Row, most: float) -> Row:
        """With images a second, and whether it is as good as it should be."""
        images = 1000 * self.options.batch * self.options.batches
        speeds = f"{images / row.measured_ms:.0f} against {images / row.peer_ms:.0f} images/s"
        reached = "reached" if row.ratio.value <= most else "NOT reached"
        note = f"x {1 / row.ratio.value:.2f}: {speeds}; goal x {1 / most:.2f} {reached}"
        return Row(row.measured, row.peer, row.measured_ms, row.peer_ms, row.ratio, row.rounds, note)

    def step_of(self, name: str) -> Callable[[], object]:
        """One step of one of them, without any other being there."""
        pixels, labels = self._random(1)
        if name in ("ours", "checkpointed"):
            return self._ours(None, labels[0], checkpointing=name == "checkpointed")
        model = self._plain() if name == "plain" else self._full()
        return partial(self._fed, model, self._optimizer(model), pixels, labels)

    def _backbone(self) -> LoadedBackbone:
        backbone = load_backbone(self.name, "random", seed=self.options.seed)
        backbone.module.to(self.device)
        self.preprocessing = backbone.preprocessing
        return backbone

    def _plain(self) -> PlainModel:
        backbone = self._backbone()
        self._widths = {site.name: site.width for site in backbone.sites}
        torch.manual_seed(self.options.seed)
        return PlainModel(backbone, self._widths).to(self.device)

    def _full(self) -> nn.Module:
        backbone = self._backbone()
        return nn.Sequential(
            backbone.module.requires_grad_(True), nn.Linear(backbone.identity.features, len(CLASSES))
        ).to(self.device)

    def _others(self) -> dict[str, nn.Module]:
        return {"full": self._full()} | ({"peft": self._peft()} if find_spec("peft") else {})

    def _peft(self) -> nn.Module:
        """LoRA of the rank that trains as many parameters as the adapters, at the layers named qkv."""
        import peft  # type: ignore[import-not-found,unused-ignore]  # no part of this project: whoever has it

        backbone = self._backbone()
        layers = [part for name, part in backbone.module.named_modules() if name.endswith("qkv")]
        each = sum(layer.in_features + layer.out_features for layer in layers)
        wanted = sum(2 * width * width for width in self._widths.values())
        rank = max(1, round(wanted / each))
        config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=["qkv"])
        body: nn.Module = peft.inject_adapter_in_model(config, backbone.module)
        trained = sum(one.numel() for one in body.parameters() if one.requires_grad)
        print(f"peft: LoRA of rank {rank} at qkv, {trained:,} parameters; adapters {wanted:,}", file=sys.stderr)
        return nn.Sequential(body, nn.Linear(backbone.identity.features, len(CLASSES))).to(self.device)

    def _random(self, batches: int | None = None) -> tuple[list[Tensor], list[Tensor]]:
        options, size = self.options, load_backbone(self.name, "random", seed=0).preprocessing.size
        generator = torch.Generator().manual_seed(options.seed)
        count = options.batches if batches is None else batches
        pixels = [torch.randn(options.batch, 3, *size, generator=generator) for _ in range(count)]
        labels = [torch.randint(len(CLASSES), (options.batch,), generator=generator) for _ in range(count)]
        return [one.to(self.device) for one in pixels], [one.to(self.device) for one in labels]

    def _optimizer(self, model: nn.Module) -> torch.optim.AdamW:
        trained = [one for one in model.parameters() if one.requires_grad]
        return torch.optim.AdamW(trained, lr=self.config.learning_rate, weight_decay=self.config.weight_decay)

    def _ours(self, weights: Any, given: Tensor | None = None, *, checkpointing: bool = False) -> Callable[[], object]:
        config = replace(self.config, grad_checkpointing=checkpointing)
        backbone = self._backbone()
        model = EditedModel(backbone, mimi.describe(backbone.network, mimi.MimiSettings()), len(CLASSES), 0)
        model.to(self.device)
        split = on_device(self._decoded(given), backbone.preprocessing, self.device)
        inputs = RoundInputs(split, split, None, self.autocast, (1,))
        optimizer = make_optimizer(model, config)
        if weights is not None:
            model.load_weights(weights)
            self._require_same(model, inputs)
        order = torch.arange(len(split), device=self.device).split(self.options.batch)

        def turn() -> None:
            for index in order:
                training_step(model, optimizer, inputs, index, config, Place(0, 0, 0))
            self._wait()

        return turn

    def _decoded(self, labels: Tensor | None) -> LabelledImages:
        """The photographs, or black ones with labels that are given."""
        if labels is None:
            return decode_split(load_dataset(self.folder, seed=0).splits["train"], self.preprocessing)
        size = self.preprocessing.size
        return LabelledImages(np.zeros((len(labels), *size, 3), np.uint8), labels.cpu().numpy())

    @torch.no_grad()
    def _require_same(self, model: EditedModel, inputs: RoundInputs) -> None:
        index = torch.arange(min(8, len(inputs.train)), device=self.device)
        pixels = inputs.train.normalised(inputs.train.images[index])
        with self.autocast:
            losses = [
                functional.cross_entropy(one(pixels).float(), inputs.train.labels[index]).item()
                for one in (model, self._plain())
            ]
        if abs(losses[0] - losses[1]) > LOSS_TOLERANCE:
            raise MimiEdgeError(f"Ours and the plain loop do not compute the same: their losses are {losses}.")

    def _by_workers(self, precision: torch.autocast) -> Callable[[], object]:
        model = self._plain()
        optimizer = self._optimizer(model)
        photographs = Photographs(sorted((self.folder / "train").glob("*/*.jpg")), self.preprocessing)
        loader = DataLoader(
            photographs,
            self.options.batch,
            shuffle=True,
            num_workers=WORKERS,
            persistent_workers=True,
            pin_memory=self.device.type == "cuda",
        )

        def turn() -> None:
            for images, targets in loader:
                there = images.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)
                self._step(model, optimizer, *there, precision)
            self._wait()

        return turn

    def _fed(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, pixels: list[Tensor], labels: list[Tensor]
    ) -> None:
        for images, targets in zip(pixels, labels, strict=True):
            self._step(model, optimizer, images, targets, self.autocast)
        self._wait()

    def _step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        images: Tensor,
        targets: Tensor,
        precision: torch.autocast,
    ) -> None:
        with precision:
            logits = model(images)
        loss = functional.cross_entropy(logits.float(), targets, label_smoothing=self.config.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


if __name__ == "__main__":
    main()
