"""What TensorRT engines of tasks cost on a GPU beside the bare backbone's: time, switches, bytes, memory, builds.

Backbones at 224 px with random weights and tasks of 0.5 MB (fp16, neurons spread differently for each). Needs an NVIDIA
GPU and TensorRT; --backend trt-rtx for TensorRT for RTX. Everything of one table is timed in turns in one run. Times
are without host copies: images are on the device, and each sample waits for the GPU.

Peers: the bare backbone as an engine of ours, as `trtexec --fp16` would build it (where this TensorRT still has that),
torch.compile, and ONNX Runtime's CUDA provider, whose times include copies.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import Row, compared, parser, random_task, show
from graphs import exported
from on_gpu import Gpu, bare, built_as_trtexec_would, launched, peers, sizes_of

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.export.engines.building.build import BuiltEngine
from mimi_edge.export.engines.building.drafts import Draft, TypedGraph, drafted, typed
from mimi_edge.export.engines.building.requests import BatchRange
from mimi_edge.export.engines.running.executor import Plan
from mimi_edge.export.engines.running.mixed import MixedRunner
from mimi_edge.export.engines.running.refit import RefitRunner
from mimi_edge.export.engines.running.shared import SharedRunner
from mimi_edge.export.graphs import BackboneGraph
from mimi_edge.export.open_packages import Package
from mimi_edge.export.packages import create_or_extend
from mimi_edge.export.precision.half import to_half
from mimi_edge.export.shared.inputs import task_tensors
from mimi_edge.files import MEGABYTE
from mimi_edge.profiles.environment import current_environment
from mimi_edge.profiles.latency import Samples, WarmUp, measure, summarise
from mimi_edge.tasks.files import read_task, write_task
from mimi_edge.tasks.stores import Floats

BACKBONES = {
    "Swin-T": "swin_tiny_patch4_window7_224",
    "ViT-S": "vit_small_patch16_224",
    "ViT-B": "vit_base_patch16_224",
}
TASKS = 8
FLEETS = (1, 10, 100)
WARM_UP = WarmUp(window=10, most_rounds=100)


@dataclass(frozen=True)
class Kind:
    """An engine of a package's tasks, built.

    Attributes:
        draft: what it was built from.
        built: the engine.
    """

    draft: Draft
    built: BuiltEngine


@dataclass(frozen=True)
class Bench:
    """What every table of one backbone has at hand.

    Attributes:
        label: what tables call the backbone.
        name: timm's name of it.
        gpu: the GPU.
        package: of the tasks.
        backbone: its graph.
        options: the command line.
    """

    label: str
    name: str
    gpu: Gpu
    package: Package
    backbone: BackboneGraph
    options: argparse.Namespace

    @property
    def names(self) -> list[str]:
        """Of the tasks."""
        return list(self.package.tasks)

    def images(self, count: int) -> Floats:
        """Noise, [B, 3, S, S]."""
        size = self.backbone.info.input_size
        return np.random.default_rng(self.options.seed).standard_normal((count, 3, *size), np.float32)

    def say(self, what: str) -> None:
        """Tells whoever waits."""
        print(f"{self.label}: {what}", file=sys.stderr, flush=True)

    def ranges(self) -> dict[str, BatchRange]:
        """Sizes of all dimensions that vary."""
        batch = sizes_of(self.options.batches)
        answers = BatchRange(1, self.options.tasks, max(self.options.tasks, batch.largest))
        return {"batch": batch, "frames": batch, "answers": answers, "tasks": BatchRange(1, self.options.tasks, 256)}

    def build(self, strategy: Strategy, *, mixed: bool = False, cache: Path | None = None) -> Kind:
        """An engine for the first task, or for all."""
        names = self.names[:1] if strategy is Strategy.PER_TASK else self.names
        draft = drafted(self.package, names, strategy, mixed=mixed, backend=self.gpu.bindings.backend)
        graph: TypedGraph = typed(draft, self.package, self.options.precision, {})
        built = self.gpu.build(
            graph.model, self.package.folder, self.ranges(), refittable=graph.refittable, cache=cache
        )
        return Kind(draft, built)

    def load(self, kind: Kind) -> Any:
        """A runner with the kind's tasks in it, the first in use."""
        draft, plan = kind.draft, kind.built.plan
        if draft.layout is None:
            return self.gpu.runner(plan)
        made = RefitRunner if draft.strategy is Strategy.REFIT else MixedRunner if draft.mixed else SharedRunner
        runner = self.gpu.keep(made(Plan(self.gpu.bindings, plan, self.gpu.cuda)))
        for task in draft.tasks:
            runner.add(task.header.name, task_tensors(task, draft.layout), len(task.header.classes))
        if not draft.mixed:
            runner.use(draft.tasks[0].header.name)
        return runner


def main() -> None:
    """Measures and prints."""
    options = read_options()
    rows: list[Row] = []
    lines: list[str] = []
    for label in options.backbone or ("Swin-T", "ViT-S"):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            gpu = Gpu(stack, options.backend)
            heading = gpu.description
            bench = prepared(label, BACKBONES[label], Path(folder), gpu, options)
            found, told = measured(bench)
            rows += found
            lines += told
    print(f"{heading}, precision {options.precision.value}, {time.strftime('%Y-%m-%d')}\n")
    show(rows, current_environment(), as_json=options.json)
    print("\n" + "\n".join(lines))


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    options = parser(__doc__, rounds=200)
    options.add_argument("--backbone", choices=BACKBONES, action="append", help="default: Swin-T and ViT-S")
    options.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=[1, 8, 32])
    options.add_argument("--tasks", type=int, default=TASKS, help="default: %(default)s")
    options.add_argument("--precision", type=Precision, choices=list(Precision)[:3], default=Precision.FP16)
    options.add_argument("--backend", type=Backend, choices=[Backend.TRT, Backend.TRT_RTX], default=None)
    options.add_argument("--no-peers", action="store_true", help="leave torch.compile and ONNX Runtime out")
    return options.parse_args(arguments)


def prepared(label: str, name: str, folder: Path, gpu: Gpu, options: argparse.Namespace) -> Bench:
    """A package with tasks of 0.5 MB that have their neurons at different sites."""
    backbone = exported(name, folder, options.seed)
    info, files = backbone.info, []
    for turn in range(options.tasks):
        task = random_task(f"task{turn}", info.backbone, info.sites, info.preprocessing, seed=options.seed + turn)
        files.append(folder / f"task{turn}.safetensors")
        write_task(task, files[-1])
    package = create_or_extend(folder / "package", folder, files)
    return Bench(label, name, gpu, package, backbone, options)


def measured(bench: Bench) -> tuple[list[Row], list[str]]:
    """Every table of one backbone."""
    lines = list(build_times(bench))
    kinds = {
        "merged": bench.build(Strategy.PER_TASK, cache=bench.gpu.timing_cache),
        "shared": bench.build(Strategy.SHARED, cache=bench.gpu.timing_cache),
        "mixed": bench.build(Strategy.SHARED, mixed=True, cache=bench.gpu.timing_cache),
    }
    if bench.gpu.bindings.has_flag("REFIT_INDIVIDUAL"):
        kinds["refit"] = bench.build(Strategy.REFIT, cache=bench.gpu.timing_cache)
    alone = bare_engine(bench)
    runners = {name: bench.load(kind) for name, kind in kinds.items()}
    runners["bare"] = bench.gpu.runner(alone.plan)
    rows = [row for batch in bench.options.batches for row in latencies(bench, runners, batch)]
    rows += one_frame(bench, runners)
    lines += switches(bench, kinds, runners)
    lines += fleet(bench, kinds, runners, alone)
    return rows, lines


def bare_engine(bench: Bench) -> BuiltEngine:
    """The backbone alone, in the same precision."""
    model = bare(bench.package.backbone_graph)
    to_half(model, bench.options.precision)
    return bench.gpu.build(model, bench.package.folder, bench.ranges(), cache=bench.gpu.timing_cache)


def latencies(bench: Bench, runners: Mapping[str, Any], batch: int) -> Iterator[Row]:
    """One batch through a task's own engine, the shared one and a refitted one, over the bare backbone's."""
    bench.say(f"batch {batch}")
    images = bench.images(batch)
    timed = {name: launched(runner, images) for name, runner in runners.items() if name != "mixed"}
    if batch == bench.options.batches[0]:
        plan = built_as_trtexec_would(bench.gpu, bench.package.backbone_graph, bench.ranges())
        if plan is not None:
            timed["bare, as trtexec --fp16"] = launched(bench.gpu.runner(plan), images)
        if not bench.options.no_peers:
            seed = bench.options.seed
            timed |= peers(bench.package.backbone_graph, bench.name, images, bench.options.precision, seed)
    samples = named(bench, timed, f"batch {batch}")
    peer = f"{bench.label} bare batch {batch}"
    for name in samples:
        if name != peer:
            yield compared(name, peer, samples)


def named(bench: Bench, timed: Mapping[str, Callable[[], object]], what: str) -> dict[str, Samples]:
    """One interleaved run, under names that say which backbone and what."""
    runnables = {f"{bench.label} {name} {what}": run for name, run in timed.items()}
    return measure(runnables, rounds=bench.options.rounds, seed=bench.options.seed, warm_up=WARM_UP)


def one_frame(bench: Bench, runners: Mapping[str, Any]) -> Iterator[Row]:
    """All tasks about one frame: one mixed pass, a pass each on the shared engine, one bare pass."""
    bench.say("all tasks on one frame")
    image = bench.images(1)
    mixed, shared = runners["mixed"], runners["shared"]
    call = mixed.load(image, [0] * len(bench.names), bench.names)

    def together() -> None:
        mixed.launch(call)
        mixed.executor.wait()

    batch = shared.load(image)

    def apart() -> None:
        for name in bench.names:
            shared.use(name)
            shared.launch(batch)
            shared.executor.wait()

    count = len(bench.names)
    timed = {f"{count} tasks in one mixed pass": together, f"{count} tasks in a pass each": apart}
    samples = named(bench, timed | {"1 bare pass": launched(runners["bare"], image)}, "one frame")
    one, each, single = samples
    yield compared(one, each, samples)
    yield compared(one, single, samples)


def switches(bench: Bench, kinds: Mapping[str, Kind], runners: Mapping[str, Any]) -> Iterator[str]:
    """How long until another task can be launched."""
    bench.say("switches")
    yield f"\n{bench.label}: task switch, {bench.options.rounds} times\n"
    yield "| strategy | p50 us | p99 us |"
    yield "|---|---:|---:|"
    image = bench.images(1)
    for name in ("shared", "refit"):
        if name in runners:
            yield switch_row(name, switch_times(bench, runners[name], image))
    yield switch_row("engine load", load_times(bench, kinds["merged"]))


def switch_times(bench: Bench, runner: Any, image: Floats) -> list[int]:
    """Nanoseconds of `use`, between launches; every task was launched before."""
    batch = runner.load(image)
    for name in bench.names:
        runner.use(name)
        runner.launch(batch)
    runner.executor.wait()
    times = []
    for turn in range(bench.options.rounds):
        started = time.perf_counter_ns()
        runner.use(bench.names[turn % len(bench.names)])
        times.append(time.perf_counter_ns() - started)
        runner.launch(batch)
        runner.executor.wait()
    return times


def load_times(bench: Bench, kind: Kind) -> list[int]:
    """Nanoseconds from a plan in host memory to an engine that is ready."""
    times = []
    for _ in range(min(20, bench.options.rounds)):
        started = time.perf_counter_ns()
        bench.gpu.runner(kind.built.plan).close()
        times.append(time.perf_counter_ns() - started)
    return times


def switch_row(name: str, times: Sequence[int]) -> str:
    """One line of the table of switches."""
    found = summarise(times)
    return f"| {name} | {found.p50_ms * 1000:.1f} | {found.p99_ms * 1000:.1f} |"


def fleet(bench: Bench, kinds: Mapping[str, Kind], runners: Mapping[str, Any], alone: BuiltEngine) -> Iterator[str]:
    """Bytes on disk and on the device for several tasks; what was not built follows from one task's share."""
    per_task = read_task(bench.package.task(bench.names[0]).task_file)
    task_file = bench.package.task(per_task.header.name).task_file.stat().st_size
    own = kinds["merged"].built.size_bytes
    full = alone.size_bytes
    yield f"\n{bench.label}: MB stored, MB on the device (all tasks ready at once), by number of tasks\n"
    yield "| strategy | " + " | ".join(f"{count}: stored | {count}: device" for count in FLEETS) + " |"
    yield "|---|" + "---:|" * (2 * len(FLEETS))
    merged, shared = runners["merged"].memory, runners["shared"].memory
    one_task = next(iter(shared.tasks_bytes.values()))
    apart = merged.engine_bytes + merged.buffers_bytes
    yield fleet_row("engine per task", lambda n: (n * own, n * apart + merged.scratch_bytes))
    stored = kinds["shared"].built.size_bytes
    fixed = shared.engine_bytes + shared.buffers_bytes + shared.scratch_bytes
    yield fleet_row("shared", lambda n: (stored + n * task_file, fixed + n * one_task))
    if "refit" in kinds:
        refit, room = kinds["refit"].built.size_bytes, runners["refit"].memory.total_bytes
        yield fleet_row("refit (one task at a time)", lambda n: (refit + n * task_file, room))
    yield fleet_row("full models", lambda n: (n * full, n * apart + merged.scratch_bytes))


def fleet_row(name: str, sizes: Callable[[int], tuple[int, int]]) -> str:
    """One line of the table of bytes."""
    cells = [f"{size / MEGABYTE:.1f}" for count in FLEETS for size in sizes(count)]
    return f"| {name} | " + " | ".join(cells) + " |"


def build_times(bench: Bench) -> Iterator[str]:
    """Seconds to build a task's engine without a timing cache, with an empty one, and with a filled one."""
    bench.say("builds")
    cache = bench.package.folder.parent / "first.timing"
    build = partial(bench.build, Strategy.PER_TASK)
    without, empty, filled = build().built, build(cache=cache).built, build(cache=cache).built
    yield f"\n{bench.label}: seconds to build a task's engine\n"
    yield "| no timing cache | an empty one | a filled one |"
    yield "|---:|---:|---:|"
    yield f"| {without.seconds:.1f} | {empty.seconds:.1f} | {filled.seconds:.1f} ({filled.timing_cache.value}) |"


if __name__ == "__main__":
    main()
