"""Builds engines for a package's tasks, proves them where a GPU is, and only then puts them on the package's shelf."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mimi_edge.choices import Strategy
from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.export.engines.building.work import EngineOptions, EngineWork, ImagesOf, Machine, no_images
from mimi_edge.export.engines.proof.attention import made_for_attention
from mimi_edge.export.engines.proof.proven import Made
from mimi_edge.export.engines.running.cuda import open_cuda, why_no_gpu
from mimi_edge.export.engines.shelf.shelf import SUFFIX, ShelvedEngine, engine_name, publish
from mimi_edge.export.engines.shelf.sidecars import Sidecar, unproved_note
from mimi_edge.export.engines.tensorrt.bindings import load_bindings
from mimi_edge.export.open_packages import Package
from mimi_edge.export.shared.layout import layout_document
from mimi_edge.files import sha256_of
from mimi_edge.tasks.task import Task
from mimi_edge.version import __version__


def export_engines(
    package: Package,
    options: EngineOptions,
    *,
    tasks: Sequence[str] | None = None,
    images: ImagesOf = no_images,
    speed: Callable[..., Any] | None = None,
    threads: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    listener: Listener = silent,
) -> list[ShelvedEngine]:
    """Builds engines and puts those that answer right on the package's shelf; the others never appear there.

    Args:
        package: whose tasks to build for.
        options: what kind of engines.
        tasks: names; None is all of the package.
        images: gives each task's images.
        speed: times two functions in turns and gives the ratio of their medians; INT8 is compared with fp16 by it.
        threads: of ONNX Runtime.
        should_stop: asked after each step of a build.
        listener: hears how far it is.

    Returns:
        One engine a task, or one for all.

    Raises:
        EngineBuildError: TensorRT cannot build an engine.
        ExportMismatchError: an engine does not answer what its graph answers; it was not published.
        ConfigError: there is no such task, or what was asked for contradicts itself.
        MimiEdgeError: TensorRT, its libraries or the driver are missing.
        StoppedError: `should_stop` said so; engines that were finished stay.
    """
    names = [package.task(name).name for name in (package.tasks if tasks is None else dict.fromkeys(tasks))]
    if not names:
        raise ConfigError(f"{package.folder} has no tasks. Export one first: mimi-edge export --format onnx")
    machine = _machine(options)
    jobs = [[name] for name in names] if options.strategy is Strategy.PER_TASK else [names]
    work = EngineWork(package, options, machine, images, speed, threads, should_stop, listener)
    return [_exported(work, job) for job in jobs]


def _machine(options: EngineOptions) -> Machine:
    bindings = load_bindings(options.backend)
    no_gpu = why_no_gpu()
    if no_gpu is not None and not bindings.capabilities():
        raise MimiEdgeError(f"{bindings.name} builds engines on the GPU that they are for. {no_gpu}")
    if no_gpu is not None and bindings.capabilities() and not options.compute_capabilities:
        raise ConfigError(
            f"{bindings.name} has no GPU here that it could build an engine for. {no_gpu}\n"
            "It can also build for the GPU of another machine, given the compute capability of that: "
            f"--compute-capability {bindings.capabilities()[-1]}, for instance; it knows "
            f"{', '.join(bindings.capabilities())}."
        )
    return Machine(bindings, None if no_gpu is not None else open_cuda(), no_gpu)


def _exported(work: EngineWork, names: Sequence[str]) -> ShelvedEngine:
    """Builds, proves and publishes the engine of these tasks."""
    options = work.options
    label = engine_name(
        options.strategy,
        options.precision,
        names[0] if options.strategy is Strategy.PER_TASK else None,
        mixed=options.mixed,
    )
    made = made_for_attention(work, names, label)
    built, sidecar = made.built, _sidecar(work, label, made)
    work.listener(Note(f"Built {label}: {built.size_bytes:,} bytes in {built.seconds:.1f} s."))
    if sidecar.unproved is not None:
        work.listener(Note(unproved_note(label, sidecar.unproved)))
    return publish(work.package.folder, sidecar, built.write)


def _sidecar(work: EngineWork, label: str, made: Made) -> Sidecar:
    options, machine = work.options, work.machine
    draft, graph, built, check = made.draft, made.graph, made.built, made.check
    device = None if machine.cuda is None else machine.cuda.device
    here = () if device is None else (".".join(map(str, device.compute_capability)),)
    return Sidecar(
        engine=label + SUFFIX,
        sha256=built.sha256,
        size_bytes=built.size_bytes,
        backend=machine.bindings.backend,
        version=machine.bindings.version,
        gpu=None if device is None or options.compute_capabilities else device.name,
        compute_capabilities=options.compute_capabilities or here,
        cuda=None if device is None else device.runtime_cuda,
        precision=options.precision,
        strategy=options.strategy,
        mixed=options.mixed,
        ranges=options.ranges(len(draft.tasks)),
        tensors=built.tensors,
        tasks={task.header.name: _task_sha256(work, task) for task in draft.tasks},
        backbone_sha256=work.package.backbone.sha256,
        layout=None if draft.layout is None else layout_document(draft.layout),
        kept_fp32={layer.name: layer.reason for layer in graph.kept},
        passes=draft.passes,
        prefix_blocks=draft.saved_blocks,
        build_seconds=built.seconds,
        timing_cache=built.timing_cache.value,
        check={"overflow_looked_for_on": graph.looked_at, **check},
        mimi_edge=__version__,
    )


def _task_sha256(work: EngineWork, task: Task) -> str:
    return sha256_of(work.package.task(task.header.name).task_file)
