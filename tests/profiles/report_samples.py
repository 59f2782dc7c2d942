"""Reports made up in memory, of whatever shape a test needs: nothing is measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mimi_edge.profiles.devices.roofline import Estimate
from mimi_edge.profiles.environment import Environment
from mimi_edge.profiles.latency import Samples
from mimi_edge.profiles.ratios import ratio as ratio_of
from mimi_edge.profiles.reports import (
    EnergyUse,
    Failure,
    MeasuredAccuracy,
    MeasuredArtefact,
    Measurement,
    MemoryUse,
    Preparation,
    RatioTo,
    Report,
)
from mimi_edge.profiles.storage import PackageStorage, TaskStorage
from mimi_edge.tasks.task import SplitAccuracy

SITES = ("blocks.0.attn", "blocks.0.mlp", "blocks.1.attn", "blocks.1.mlp")
BACKBONE_FILES = {"package/backbone.onnx": 120_000, "package/backbone.weights": 110_000_000}


def make_environment(**changes):
    """A desktop without a GPU; `gpu=GPU` and `board=BOARD` of this module for one with."""
    environment = Environment(
        cpu="Example CPU 9000",
        cores=8,
        threads=4,
        system="Linux 6.8.0",
        machine="x86_64",
        python="3.11.9",
        packages={"mimi-edge": "0.1.0", "numpy": "2.0.0", "onnxruntime": "1.31.0"},
        providers=("CPUExecutionProvider",),
        load_average=0.4,
        git_revision="0123456789abcdef0123456789abcdef01234567",
        gpu=None,
        board={"kind": "cpu", "name": "Example CPU 9000", "power_mode": None, "temperatures_c": {}},
        marks=(),
    )
    return replace(environment, **changes)


GPU = {
    "name": "Example RTX",
    "driver": "570.10",
    "compute_capability": "8.9",
    "clocks_mhz": {"graphics": 2520, "memory": 10501},
    "power_limit_watts": 320.0,
}
BOARD = {"kind": "gpu", "name": "Example RTX", "power_mode": None, "temperatures_c": {"gpu": 51.0}}


def make_samples(median_ms=10.0, count=100, seed=0, spread=0.05, settled=True):
    """Log-normal samples around a median."""
    random = np.random.default_rng(seed)
    taken = median_ms * 1e6 * random.lognormal(0, spread, count + 10)
    values = [int(value) for value in taken]
    return Samples(tuple(values[10:]), tuple(values[:10]), settled)


def make_measurement(batch=1, samples=None, reference=None, to="backbone", energy=None, estimate=None):
    """A measurement, and its ratio to the reference's samples if these are given."""
    samples = samples or make_samples()
    ratio = None
    if reference is not None:
        ratio = RatioTo(to, ratio_of(samples, reference, resamples=200))
    return Measurement(batch, samples, ratio, energy, estimate)


def make_energy(images=400, watts=60.0, idle_watts=20.0, seconds=4.0):
    """Joules of a GPU's board."""
    return EnergyUse(watts * seconds, seconds, images, idle_watts, "counter", 80, "GPU board, energy counter from NVML")


def make_estimate(batch=1, ms=2.0):
    """What a data sheet promises."""
    return Estimate("example-rtx", "Example RTX", "fp32", batch, {"compute": ms, "bandwidth": ms / 2}, None)


def make_backbone(batches=(1,), median_ms=10.0, **changes):
    """The bare backbone, the reference of the ratios."""
    artefact = MeasuredArtefact(
        name="backbone",
        kind="backbone",
        backend="ort-cpu",
        backbone="tiny_backbone_32",
        origin="package",
        files=BACKBONE_FILES,
        gflops=8.7,
        memory=MemoryUse(90_000_000, 320_000_000),
        measurements=tuple(make_measurement(batch, make_samples(median_ms * batch, seed=batch)) for batch in batches),
    )
    return replace(artefact, **changes)


def make_accuracy(images, right, split="test"):
    """Two classes that are mostly found, and one that is not."""
    return MeasuredAccuracy(split, images, right, {"cat": 0.98, "dog": 0.95, "eel": 0.125})


def make_task(name="digits", batches=(1,), slower=1.02, median_ms=10.0, accuracy=0.9, neurons=(3, 0, 2, 1), **changes):
    """A task that takes `slower` times as long as the backbone of `make_backbone`."""
    images = 1000
    artefact = MeasuredArtefact(
        name=name,
        kind="task",
        task=name,
        backend="ort-cpu",
        files=BACKBONE_FILES | {f"package/{name}.onnx": 140_000, f"package/{name}.safetensors": 480_000},
        neurons=dict(zip(SITES, neurons, strict=True)),
        gflops=8.8,
        stored_accuracy={"val": SplitAccuracy(0.91, 500), "test": SplitAccuracy(accuracy, images)},
        backbone="tiny_backbone_32",
        origin="package",
        accuracy=make_accuracy(images, round(accuracy * images)),
        preprocessing=Preparation("test split", (400_000, 410_000), (200_000, 190_000), (90_000, 80_000)),
        memory=MemoryUse(90_000_000, 330_000_000, 200_000_000, 450_000_000),
        measurements=tuple(
            make_measurement(
                batch,
                make_samples(slower * median_ms * batch, seed=batch + len(name)),
                make_samples(median_ms * batch, seed=batch),
            )
            for batch in batches
        ),
    )
    return replace(artefact, **changes)


def make_failed(name="broken", stage="latency, batch 1", message="Killed: out of memory?", exit_code=-9):
    """An artefact whose process died."""
    return MeasuredArtefact(name, "task", "ort-cpu", task=name, failure=Failure(stage, message, exit_code))


def make_report(tasks=("digits", "fashion"), batches=(1, 8), *, failed=False, environment=None, **changes):
    """A package's report: backbone and tasks at every batch; with `failed` one more task, which died."""
    artefacts = [make_backbone(batches), *(make_task(name, batches) for name in tasks)]
    if failed:
        artefacts.append(make_failed())
    report = Report(
        made="2026-11-21T05:00:00+00:00",
        seed=0,
        environment=environment or make_environment(),
        artefacts=tuple(artefacts),
        method={"rounds": 100, "burst": 1, "host_copies": True},
        storage=PackageStorage(
            120_000, 110_000_000, 111_500_000, {name: TaskStorage(480_000, 140_000) for name in tasks}
        ),
    )
    return replace(report, **changes)
