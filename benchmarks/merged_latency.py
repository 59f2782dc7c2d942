"""What a task costs in time: latency of the merged graph over that of the bare backbone, in ONNX Runtime on the CPU.

Swin-T at 224 px and the built-in backbone at 32 px, each with a task of 0.5 MB stored as fp16, batch 1 and 8. Weights
are random, for how long a dense network takes does not depend on them. A fifth of the sites has no neurons and the
others have log-normal shares, much as global pruning leaves them; how many exactly is in the table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from common import Row, compared, neurons_note, parser, show
from graphs import exported, with_task

from mimi_edge.choices import Backend
from mimi_edge.export.onnx_runtime import PROVIDERS, open_graph
from mimi_edge.profiles.environment import current_environment
from mimi_edge.profiles.latency import measure

BACKBONES = {"Swin-T": "swin_tiny_patch4_window7_224", "built-in": "builtin"}


def main() -> None:
    """Measures and prints."""
    options = read_options()
    environment = current_environment(threads=options.threads, providers=PROVIDERS[Backend.ORT_CPU])
    rows = [row for label in options.backbone or BACKBONES for row in compare(label, options)]
    show(rows, environment, as_json=options.json)


def read_options() -> argparse.Namespace:
    """The command line."""
    options = parser(__doc__, rounds=60)
    options.add_argument("--backbone", choices=BACKBONES, action="append", help="one of the two only")
    options.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="(default 1 8)")
    options.add_argument("--threads", type=int, help="of ONNX Runtime (default: it chooses)")
    return options.parse_args()


def compare(label: str, options: argparse.Namespace) -> Iterator[Row]:
    """Bare and merged graph of one backbone, at every batch."""
    with tempfile.TemporaryDirectory() as name:
        backbone = exported(BACKBONES[label], Path(name), options.seed)
        task, merged = with_task(backbone, options.seed)
        note = neurons_note(task, backbone.info.sites, Path(name, "random.safetensors").stat().st_size)
        models = {
            f"{label} merged": open_graph(merged.path, threads=options.threads),
            f"{label} bare": open_graph(backbone.path, threads=options.threads),
        }
        for batch in options.batches:
            print(f"{label}, batch {batch}", file=sys.stderr)
            size = backbone.info.input_size
            images = np.random.default_rng(options.seed).standard_normal((batch, 3, size, size), np.float32)
            runnables = {f"{key}, batch {batch}": partial(model.run, images) for key, model in models.items()}
            samples = measure(runnables, rounds=options.rounds, seed=options.seed)
            measured, peer = runnables
            yield compared(measured, peer, samples, note)


if __name__ == "__main__":
    main()
