"""What a task costs in time: latency of the merged graph over that of the bare backbone, in ONNX Runtime on the CPU.

Swin-T at 224 px and the built-in backbone at 32 px, each with a task of 0.5 MB, batch 1 and 8. Weights are random, for
how long a dense network takes does not depend on them. A fifth of the sites has no neurons and the others have
log-normal shares, much as global pruning leaves them; how many exactly is in the table.

The same weights are stored as fp16 and, decoded, as fp32: whoever folds the casts when loading takes the same time
for both; so it is with one bit, of as many neurons. In another graph adapters are `Gemm` on flattened tokens. Graphs
are loaded several times, because where weights happen to lie in memory changes the time of a graph; the row of the
same graph loaded twice shows by how much.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from common import Row, compared, neurons_note, parser, sampled, show
from forms import two_dimensional_adapters
from graphs import exported, with_task

from mimi_edge.choices import Backend, own_head_store
from mimi_edge.export.graph_files import save_graph
from mimi_edge.export.graphs import BackboneGraph, load_graph
from mimi_edge.export.merge import merge
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.profiles.environment import current_environment
from mimi_edge.profiles.latency import Runnable
from mimi_edge.runtimes import PROVIDERS
from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.stores import Floats, Store
from mimi_edge.tasks.task import Task, decode_tensors, encode_tensors

BACKBONES = {"Swin-T": "swin_tiny_patch4_window7_224", "built-in": "builtin"}
BARE, FP16, FP32, INT1, GEMM, AGAIN = (
    "bare",
    "fp16",
    "fp32",
    "int1",
    "fp16, Gemm on flat tokens",
    "fp16, loaded a second time",
)


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
    options.add_argument("--loads", type=int, default=4, help="load every graph so often (default %(default)s)")
    options.add_argument("--threads", type=int, help="of ONNX Runtime (default: it chooses)")
    options.add_argument(
        "--cpu-time", action="store_true", help="count processor time, where others use the machine; take --threads 1"
    )
    return options.parse_args()


def compare(label: str, options: argparse.Namespace) -> Iterator[Row]:
    """Bare and merged graphs of one backbone, at every batch."""
    with tempfile.TemporaryDirectory() as name:
        backbone = exported(BACKBONES[label], Path(name), options.seed)
        task, merged = with_task(backbone, options.seed)
        note = neurons_note(task, backbone.info.sites, Path(name, "random.safetensors").stat().st_size)
        graphs = {BARE: backbone.path, FP16: merged.path, AGAIN: merged.path}
        graphs |= {FP32: stored_as(Store.FP32, backbone, task), INT1: stored_as(Store.INT1, backbone, task)}
        graphs[GEMM] = flattened(merged.path)
        for batch in options.batches:
            print(f"{label}, batch {batch}", file=sys.stderr)
            size = backbone.info.input_size
            images = np.random.default_rng(options.seed).standard_normal((batch, 3, *size), np.float32)
            samples = sampled(graphs, partial(loaded, images=images, threads=options.threads), options)
            named = {f"{label}, batch {batch}, {key}": sample for key, sample in samples.items()}
            bare, fp16 = f"{label}, batch {batch}, {BARE}", f"{label}, batch {batch}, {FP16}"
            yield compared(fp16, bare, named, note)
            yield from (compared(f"{label}, batch {batch}, {key}", bare, named) for key in (FP32, GEMM))
            yield from (compared(f"{label}, batch {batch}, {key}", fp16, named) for key in (INT1, AGAIN))


def loaded(graph: Path, images: Floats, threads: int | None) -> Runnable:
    """A graph that is ready to answer about these images."""
    return partial(open_graph(graph, threads=threads).run, images)


def stored_as(store: Store, backbone: BackboneGraph, task: Task) -> Path:
    """The graph of a task with the same weights, as a store keeps them."""
    of_head = own_head_store(store, None)
    header = replace(task.header, name=store.value, store=store, head_store=of_head)
    same = Task(header, encode_tensors(decode_tensors(task.tensors), store, of_head))
    task_file = backbone.folder / f"{store.value}.safetensors"
    write_task(same, task_file)
    return merge(backbone.path, task_file, backbone.folder / f"{store.value}.onnx").path


def flattened(merged: Path) -> Path:
    """The merged graph with its adapters as `Gemm`."""
    model = load_graph(merged)
    two_dimensional_adapters(model)
    path = merged.with_name("flat.onnx")
    save_graph(model, path)
    return path


if __name__ == "__main__":
    main()
