"""Engines as `mimi-edge export --format trt` makes them, looked at from outside: precisions, strategies, INT8.

What `first_half_hour.py` asks a GPU beside the tables of `engines.py`. Tasks have different numbers of classes and
their neurons at different sites.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import random_task
from graphs import exported
from on_gpu import Gpu, launched

from mimi_edge.choices import Precision, Strategy
from mimi_edge.errors import MimiEdgeError
from mimi_edge.export.engines.building.drafts import drafted, typed
from mimi_edge.export.engines.building.requests import BatchRange
from mimi_edge.export.engines.building.work import EngineOptions, ImagesOf, TaskImages, no_images
from mimi_edge.export.engines.export import export_engines
from mimi_edge.export.engines.proof.attention import FUSABLE, attention_kernels
from mimi_edge.export.engines.tensorrt.bindings import Bindings
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.open_packages import Package
from mimi_edge.export.packages import create_or_extend
from mimi_edge.export.parity import measure_outputs
from mimi_edge.export.precision.half import FP32_OPERATORS
from mimi_edge.profiles.latency import measure, summarise
from mimi_edge.profiles.ratios import measured_ratio, ratio
from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.stores import Floats

ONE = BatchRange(1, 1, 8)
COMPARED = 16
FORMS: tuple[tuple[str, Precision, Mapping[str, str]], ...] = (
    ("fp32", Precision.FP32, FP32_OPERATORS),
    ("fp16, Softmax in fp32", Precision.FP16, FP32_OPERATORS),
    ("fp16, Softmax in fp16", Precision.FP16, FUSABLE),
    ("bf16, Softmax in fp32", Precision.BF16, FP32_OPERATORS),
    ("bf16, Softmax in bf16", Precision.BF16, FUSABLE),
)
"""The first is what the others' times are compared with."""
SHORT_TRAINING: Mapping[str, Any] = {"epochs": 2}
"""Of the demonstration that INT8 is tried on."""
STRATEGIES = (
    ("per-task", Strategy.PER_TASK, False),
    ("shared", Strategy.SHARED, False),
    ("mixed", Strategy.SHARED, True),
    ("refit", Strategy.REFIT, False),
)


def packaged(name: str, folder: Path, *, tasks: int = 2, seed: int = 0) -> Package:
    """A package of a backbone with random weights and tasks of 0.5 MB; made once in a folder."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    backbone = exported(name, place, seed)
    info, files = backbone.info, []
    for turn in range(tasks):
        classes = 10 - 6 * (turn % 2)
        task = random_task(
            f"task{turn}", info.backbone, info.sites, info.preprocessing, classes=classes, seed=seed + turn
        )
        files.append(place / f"task{turn}.safetensors")
        write_task(task, files[-1])
    return create_or_extend(place / "package", place, files)


def noise(package: Package, count: int, seed: int) -> Floats:
    """Images of nothing, normalised, [n, 3, S, S]."""
    shape = (count, 3, *package.input_size)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def compared_precisions(name: str, folder: Path, *, rounds: int, seed: int) -> dict[str, Any]:
    """One task's engine in every precision: difference to ONNX Runtime in fp32, attention kernels, time, bytes."""
    package = packaged(name, folder, seed=seed)
    task = package.task("task0")
    images = noise(package, COMPARED, seed)
    right = open_graph(task.graph).run(images)
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        gpu = Gpu(stack)
        runners: dict[str, Any] = {}
        for form, precision, fp32_operators in FORMS:
            try:
                runners[form], found[form] = _form(gpu, package, precision, fp32_operators)
            except Exception as error:  # noqa: BLE001  a form that cannot be had is told, and the others go on
                found[form] = {"failed": f"{type(error).__name__}: {error}"}
                continue
            outputs = measure_outputs(runners[form], right, images, 0.0)
            found[form] |= {"relative_difference": outputs.relative_difference, "same_top1": outputs.same_top1}
        timed = {form: launched(runner, images[:1]) for form, runner in runners.items()}
        samples = measure(timed, rounds=rounds, seed=seed)
    first = FORMS[0][0]
    for form in runners:
        found[form]["p50_ms"] = summarise(samples[form].latency_ns).p50_ms
        if first in samples:
            found[form]["of_fp32"] = asdict(ratio(samples[form], samples[first]))
    return found


def _form(
    gpu: Gpu, package: Package, precision: Precision, fp32_operators: Mapping[str, str]
) -> tuple[Any, dict[str, Any]]:
    draft = drafted(package, ["task0"], Strategy.PER_TASK, backend=gpu.bindings.backend, precision=precision)
    graph = typed(draft, package, precision, {}, fp32_operators=fp32_operators)
    built = gpu.build(graph.model, package.folder, {"batch": ONE}, cache=gpu.timing_cache, layer_details=True)
    runner = gpu.runner(built.plan)
    return runner, {
        "plan_bytes": built.size_bytes,
        "build_seconds": built.seconds,
        "attention_kernels": _kernels(gpu.bindings, runner),
        "captured": runner.executor.why_no_graphs is None,
    }


def _kernels(bindings: Bindings, runner: Any) -> int:
    return attention_kernels(bindings.layers(runner.executor.engine))


def exported_strategies(name: str, folder: Path, *, seed: int) -> dict[str, Any]:
    """Every strategy, exported as users do, for two tasks of 10 and 4 classes: what each sidecar says."""
    package = packaged(name, folder, seed=seed)
    return dict(_exported(package, partial(export_engines, speed=measured_ratio), no_images))


def _exported(package: Package, export: Any, images: ImagesOf) -> Iterator[tuple[str, Any]]:
    for label, strategy, mixed in STRATEGIES:
        options = EngineOptions(Precision.FP16, strategy, ONE, mixed=mixed)
        try:
            made = export(package, options, images=images)
        except MimiEdgeError as error:
            yield label, {"failed": str(error)}
            continue
        yield (
            label,
            [
                {"engine": one.name, "bytes": one.sidecar.size_bytes, "check": dict(one.sidecar.check)}
                | {"kept_fp32": sorted(set(one.sidecar.kept_fp32.values()))}
                for one in made
            ],
        )


def int8_verdict_of_the_demonstration(folder: Path) -> dict[str, Any]:
    """Trains the built-in demonstration for a moment, and exports it in INT8 with its own images."""
    from mimi_edge.budgets import Budget
    from mimi_edge.export.backbone_graph import export_backbone
    from mimi_edge.images.dataset import decode_dataset, load_dataset
    from mimi_edge.tasks.files import read_task
    from mimi_edge.training.backbones import load_backbone
    from mimi_edge.training.config import TrainingConfig
    from mimi_edge.training.runs import run_training

    run = folder / "digits"
    task_file = run / "digits.safetensors"
    if not task_file.is_file():
        run_training(TrainingConfig(Budget(size_bytes=500_000), name="digits", **SHORT_TRAINING), run)
    backbone = load_backbone("builtin", "pretrained")
    package = create_or_extend(folder / "digits-package", export_backbone(backbone).folder, [task_file])
    decoded = decode_dataset(load_dataset("builtin:digits", seed=0), read_task(task_file).header.preprocessing)
    images = TaskImages(lambda: decoded["train"].images[:64], lambda: decoded["val"], lambda: decoded["test"])
    found: dict[str, Any] = {}
    for precision in (Precision.FP16, Precision.INT8):
        options = EngineOptions(precision, Strategy.PER_TASK, ONE)
        try:
            (made,) = export_engines(package, options, images=lambda _name: images, speed=measured_ratio)
            found[precision.value] = {"bytes": made.sidecar.size_bytes, "check": dict(made.sidecar.check)}
        except MimiEdgeError as error:
            found[precision.value] = {"failed": str(error)}
    return found
