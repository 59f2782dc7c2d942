"""What each graph pass is worth: the tuned graph without one pass over the tuned graph, and all passes over none.

Swin-T and ViT-S at 224 px with random weights and a task of 0.5 MB stored as fp16, batch 1. All graphs of a backbone
are measured in turns in one run and loaded anew a few times in it, because where a graph's weights happen to lie in
memory changes its time, too. By how much says the row of the same graph loaded twice: it should be 1, and no row that
is as near to 1 shows anything.

A row "without X" above 1 says that X helps. A row "with X" is of a pass that is not among the kept ones; there a ratio
above 1 says that X harms. LayerNormalization and Gelu leave the exporter as single nodes; their rows take them apart by
the formulas of the ONNX standard.

The table is the same for every runtime that can turn a graph on disk into something to call (RUNTIMES).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
from common import Row, compared, neurons_note, parser, sampled, show
from decompositions import decompose_gelu, decompose_layer_norm
from graphs import exported, with_task

from mimi_edge.choices import Backend
from mimi_edge.export.engine_passes import PASSES, Pass, default_passes, tune
from mimi_edge.export.graphs import load_graph
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.profiles.environment import current_environment
from mimi_edge.profiles.latency import Runnable, Samples
from mimi_edge.tasks.stores import Floats

BACKBONES = {"Swin-T": "swin_tiny_patch4_window7_224", "ViT-S": "vit_small_patch16_224"}
TUNED = "kept passes"
AGAIN = "kept passes, loaded a second time"
NONE = "no pass"
ALL = "all passes"
TAKEN_APART: Mapping[str, Pass] = {
    "LayerNormalization as one node": decompose_layer_norm,
    "Gelu as one node": decompose_gelu,
}

Runtime = Callable[..., Runnable]
"""Makes a callable out of a graph on disk, `images` [B, 3, S, S] and `options`; it returns when its work is done."""


def on_onnx_runtime(graph: Path, images: Floats, options: argparse.Namespace) -> Runnable:
    """A graph in ONNX Runtime on the CPU."""
    return partial(open_graph(graph, threads=options.threads).run, images)


def on_tensorrt(graph: Path, images: Floats, options: argparse.Namespace) -> Runnable:
    """A graph as an fp16 engine on the GPU that is here."""
    from on_gpu import on_tensorrt as as_engine

    return as_engine(graph, images, Backend(options.backend))


RUNTIMES: Mapping[Backend, Runtime] = {
    Backend.ORT_CPU: on_onnx_runtime,
    Backend.TRT: on_tensorrt,
    Backend.TRT_RTX: on_tensorrt,
}


@dataclass(frozen=True)
class Variant:
    """One way to prepare the graph.

    Attributes:
        passes: names of the passes it gets.
        afterwards: what is done to the graph besides.
    """

    passes: tuple[str, ...]
    afterwards: Pass | None = None


def main() -> None:
    """Measures and prints."""
    options = read_options()
    environment = current_environment(threads=options.threads)
    rows = [row for label in options.backbone or BACKBONES for row in compare(label, options)]
    show(rows, environment, as_json=options.json)


def read_options() -> argparse.Namespace:
    """The command line."""
    options = parser(__doc__, rounds=60)
    options.add_argument("--backbone", choices=BACKBONES, action="append", help="one of the two only")
    options.add_argument("--loads", type=int, default=4, help="load every graph so often (default %(default)s)")
    options.add_argument("--batch", type=int, default=1, help="(default %(default)s)")
    options.add_argument("--threads", type=int, help="of ONNX Runtime (default: it chooses)")
    options.add_argument(
        "--cpu-time", action="store_true", help="count processor time, where others use the machine; take --threads 1"
    )
    options.add_argument("--kept", nargs="*", choices=PASSES, help="the kept passes (default: those of the runtime)")
    names = [backend.value for backend in RUNTIMES]
    options.add_argument(
        "--backend", choices=names, default=names[0], help="what runs the graphs (default %(default)s)"
    )
    return options.parse_args()


def variants(kept: Sequence[str]) -> dict[str, Variant]:
    """Every graph that is measured, by name."""
    found = {TUNED: Variant(tuple(kept)), NONE: Variant(())}
    for name in PASSES:
        if name in kept:
            found[f"without {name}"] = Variant(tuple(each for each in kept if each != name))
        else:
            found[f"with {name}"] = Variant((*kept, name))
    found[ALL] = Variant(tuple(PASSES))
    found |= {f"without {name}": Variant(tuple(kept), apart) for name, apart in TAKEN_APART.items()}
    return found


def compare(label: str, options: argparse.Namespace) -> Iterator[Row]:
    """All variants of one backbone's graph; those a pass leaves as they are do not appear."""
    print(label, file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backbone = exported(BACKBONES[label], folder, options.seed)
        task, merged = with_task(backbone, options.seed)
        note = neurons_note(task, backbone.info.sites, (folder / "random.safetensors").stat().st_size)
        size = backbone.info.input_size
        images = np.random.default_rng(options.seed).standard_normal((options.batch, 3, *size), np.float32)
        backend = Backend(options.backend)
        kept = default_passes(backend) if options.kept is None else options.kept
        graphs = written(merged.path, variants(kept))
        graphs[AGAIN] = graphs[TUNED]
        yield from rows(
            label, sampled(graphs, partial(RUNTIMES[backend], images=images, options=options), options), note
        )


def written(merged: Path, wanted: Mapping[str, Variant]) -> dict[str, Path]:
    """Writes each variant beside the merged graph; those that are the same as an earlier one are left out."""
    paths: dict[str, Path] = {}
    seen: set[tuple[str, ...]] = set()
    for index, (name, variant) in enumerate(wanted.items()):
        model = load_graph(merged)
        changed = tune(model, variant.passes)
        if variant.afterwards is not None:
            variant.afterwards(model)
            changed += (name,)
        if changed not in seen:
            seen.add(changed)
            paths[name] = merged.with_name(f"variant{index}.onnx")
            ir.save(model, paths[name])
    return paths


def rows(label: str, samples: Mapping[str, Samples], note: str) -> Iterator[Row]:
    """Every variant against the kept passes, and the kept ones against none."""
    named = {f"{label}, {name}": sample for name, sample in samples.items()}
    tuned, none = f"{label}, {TUNED}", f"{label}, {NONE}"
    if none in named:
        yield compared(tuned, none, named, note)
    for name in sorted(named, key=lambda each: not each.endswith(AGAIN)):
        if name not in {tuned, none}:
            yield compared(name, tuned, named)


if __name__ == "__main__":
    main()
