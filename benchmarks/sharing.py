"""What it costs to share one graph: padded inputs against a task's own graph, and eight tasks on one frame.

Swin-T or the built-in backbone in ONNX Runtime on the CPU, with eight tasks of 0.5 MB (fp16, random weights) whose
neurons are spread differently; how much wider than one task the padding is, is in the table. Two runs:

- one answer at batch 1: bare backbone, a task's own graph, the shared graph, the graph with ONNX Runtime's adapters;
- eight answers about one frame: one mixed batch against eight passes through the tasks' own graphs, for tasks that use
  all sites and for tasks that only use the sites of the last third, so that the blocks before are a common prefix.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from common import Row, compared, parser, random_task, show
from graphs import exported

from mimi_edge.choices import Backend
from mimi_edge.export.graphs import INPUT, BackboneGraph
from mimi_edge.export.onnx_runtime import OnnxModel, open_graph, open_session
from mimi_edge.export.open_packages import Package
from mimi_edge.export.ort_adapters import export_ort_adapters, open_ort_adapters
from mimi_edge.export.packages import create_or_extend
from mimi_edge.export.shared.graph import SharedModel, shared_model
from mimi_edge.export.shared.inputs import answer_indices, bank_of, task_tensors
from mimi_edge.export.shared.layout import layout_of
from mimi_edge.profiles.environment import current_environment
from mimi_edge.profiles.latency import Samples, measure
from mimi_edge.runtimes import PROVIDERS
from mimi_edge.sites import Site
from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import Task

BACKBONES = {"Swin-T": "swin_tiny_patch4_window7_224", "built-in": "builtin"}
TASKS = 8


def main() -> None:
    """Measures and prints."""
    options = read_options()
    environment = current_environment(threads=options.threads, providers=PROVIDERS[Backend.ORT_CPU])
    rows: list[Row] = []
    for label in options.backbone or BACKBONES:
        with tempfile.TemporaryDirectory() as name:
            backbone = exported(BACKBONES[label], Path(name), options.seed)
            rows += one_answer(label, backbone, options)
            rows += one_frame(label, backbone, options)
    show(rows, environment, as_json=options.json)


def read_options() -> argparse.Namespace:
    """The command line."""
    options = parser(__doc__, rounds=20)
    options.add_argument("--backbone", choices=BACKBONES, action="append", help="one of the two only")
    options.add_argument("--threads", type=int, help="of ONNX Runtime (default: it chooses)")
    options.add_argument(
        "--cpu-time", action="store_true", help="count processor time, where others use the machine; take --threads 1"
    )
    return options.parse_args()


def one_answer(label: str, backbone: BackboneGraph, options: argparse.Namespace) -> Iterator[Row]:
    """One task at batch 1, through every kind of graph."""
    print(f"{label}, one answer", file=sys.stderr)
    tasks = different_tasks(backbone, backbone.info.sites, options.seed)
    package = packaged(backbone, tasks, "all sites")
    export_ort_adapters(package, backbone.folder / "adapters", threads=options.threads)
    adapters = open_ort_adapters(backbone.folder / "adapters", threads=options.threads)
    shared = shared_model(backbone.path, layout_of(tasks))
    frame = one_image(backbone, options.seed)
    feeds = {INPUT: frame, **task_tensors(tasks[0], shared.layout)}
    runnables: dict[str, Callable[[], object]] = {
        f"{label} bare": partial(open_graph(backbone.path, threads=options.threads).run, frame),
        f"{label} own graph": partial(own_graphs(package, options.threads)[0].run, frame),
        f"{label} shared graph": partial(loaded(shared, backbone, options.threads).run, None, feeds),
        f"{label} ONNX Runtime adapter": partial(adapters.run, tasks[0].header.name, frame),
    }
    samples = timed(runnables, options)
    bare, own, one, adapter = runnables
    note = f"room for {sum(shared.layout.neurons.values())} neurons, the task has {sum(tasks[0].neurons.values())}"
    yield compared(own, bare, samples)
    yield compared(one, bare, samples, note)
    yield compared(one, own, samples, note)
    yield compared(adapter, own, samples, "not padded")


def one_frame(label: str, backbone: BackboneGraph, options: argparse.Namespace) -> Iterator[Row]:
    """All tasks' answers about one image, in one pass and in a pass each."""
    sites = backbone.info.sites
    for where, used in (("all sites", sites), ("last third", sites[-(len(sites) // 6) * 2 :])):
        print(f"{label}, {TASKS} answers, {where}", file=sys.stderr)
        tasks = different_tasks(backbone, used, options.seed)
        package = packaged(backbone, tasks, f"frame, {where}")
        mixed = shared_model(backbone.path, layout_of(tasks), mixed=True)
        session = loaded(mixed, backbone, options.threads)
        frame = one_image(backbone, options.seed)
        indices = answer_indices([(0, turn) for turn in range(TASKS)], frames=1, tasks=TASKS)
        feeds = {INPUT: frame, **bank_of(tasks, mixed.layout), **indices}
        runnables: dict[str, Callable[[], object]] = {
            f"{label} {where}, one mixed pass": partial(session.run, None, feeds),
            f"{label} {where}, {TASKS} passes": partial(run_all, own_graphs(package, options.threads), frame),
            f"{label} {where}, 1 bare pass": partial(open_graph(backbone.path, threads=options.threads).run, frame),
        }
        samples = timed(runnables, options)
        together, apart, bare = runnables
        note = (
            f"{mixed.saved_blocks} of {mixed.prefix.of_blocks} blocks once a frame, "
            f"{mixed.prefix.flops_share:.0%} of the FLOPs"
        )
        yield compared(together, apart, samples, note)
        yield compared(together, bare, samples, note)


def timed(runnables: Mapping[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, Samples]:
    """Samples of each, by the clock that was asked for."""
    clock = time.process_time_ns if options.cpu_time else time.perf_counter_ns
    return measure(runnables, rounds=options.rounds, seed=options.seed, clock=clock)


def different_tasks(backbone: BackboneGraph, sites: Sequence[Site], seed: int) -> list[Task]:
    """Tasks of 0.5 MB, each with its neurons elsewhere."""
    info = backbone.info
    return [
        random_task(f"task {turn}", info.backbone, sites, info.preprocessing, seed=seed + turn) for turn in range(TASKS)
    ]


def packaged(backbone: BackboneGraph, tasks: Sequence[Task], name: str) -> Package:
    """A package of these tasks."""
    files = []
    for task in tasks:
        files.append(backbone.folder / f"{task.header.name}.safetensors")
        write_task(task, files[-1])
    return create_or_extend(backbone.folder / name, backbone.folder, files)


def own_graphs(package: Package, threads: int | None) -> list[OnnxModel]:
    """Every task's own graph, ready to run."""
    return [open_graph(task.graph, threads=threads) for task in package.tasks.values()]


def loaded(shared: SharedModel, backbone: BackboneGraph, threads: int | None) -> Any:
    """A session of a graph for many tasks."""
    path = backbone.folder / "shared.onnx"
    path.write_bytes(ir.to_proto(shared.model).SerializeToString())
    return open_session(path, threads=threads)


def one_image(backbone: BackboneGraph, seed: int) -> Floats:
    """Noise, [1, 3, S, S]."""
    size = backbone.info.input_size
    return np.random.default_rng(seed).standard_normal((1, 3, *size), np.float32)


def run_all(models: Sequence[OnnxModel], images: Floats) -> None:
    """One pass through each graph."""
    for model in models:
        model.run(images)


if __name__ == "__main__":
    main()
