"""`mimi-edge export --format trt`: TensorRT engines for a package's tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.cli.output import document_or, show_facts
from mimi_edge.cli.watching import watching
from mimi_edge.errors import ConfigError

if TYPE_CHECKING:
    from mimi_edge.events import Listener
    from mimi_edge.export.engines.exporting import ImagesOf
    from mimi_edge.export.engines.shelf import ShelvedEngine
    from mimi_edge.export.given import GivenTask

LOOKED_AT = 64
"""Training images that are looked at for overflow or calibrated on, spread over the split."""


@dataclass(frozen=True)
class AskedEngines:
    """What the options of engines say; see `mimi-edge export --help`."""

    precision: Precision
    strategy: Strategy
    batch: str
    mixed: bool
    spare_neurons: int
    spare_classes: int
    backend: Backend | None
    compute_capabilities: tuple[str, ...]
    max_accuracy_drop: float


def export(
    packages: Sequence[Path],
    asked: AskedEngines,
    *,
    tasks: Sequence[str] | None,
    runs: Sequence[Path],
    data: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Builds engines for packages, proves them where a GPU is, and puts them on the packages' shelves.

    Args:
        packages: folders.
        asked: what the options say.
        tasks: names of those to build for; all by default.
        runs: run folders of tasks, for their images.
        data: where the images of the one task are, without a run.
        threads: of ONNX Runtime.
        as_json: print JSON.

    Raises:
        ConfigError: the options contradict each other.
    """
    from mimi_edge.cli.stopping import stop_requests
    from mimi_edge.export.engines.exporting import EngineOptions, export_engines
    from mimi_edge.export.engines.requests import BatchRange
    from mimi_edge.export.given import given_of_package
    from mimi_edge.export.packages import read_package
    from mimi_edge.profiles.latency import measured_ratio

    if asked.backend not in (None, Backend.TRT, Backend.TRT_RTX):
        raise ConfigError(f"Engines come from trt or trt-rtx; got --backend {asked.backend.value}.")
    options = EngineOptions(
        precision=asked.precision,
        strategy=asked.strategy,
        batch=BatchRange.parse(asked.batch),
        mixed=asked.mixed,
        spare_neurons=asked.spare_neurons,
        spare_classes=asked.spare_classes,
        backend=asked.backend,
        compute_capabilities=asked.compute_capabilities,
        max_accuracy_drop=asked.max_accuracy_drop,
    )
    built: dict[Path, list[ShelvedEngine]] = {}
    with watching() as listener, stop_requests(listener) as should_stop:
        for folder in packages:
            package = read_package(folder)
            given = given_of_package(package, tasks or (), runs, data)
            built[folder] = export_engines(
                package,
                options,
                tasks=tasks,
                images=_images(given, data, listener),
                speed=measured_ratio,
                threads=threads,
                should_stop=should_stop,
                listener=listener,
            )
    document = {"packages": {str(folder): [_document(one) for one in engines] for folder, engines in built.items()}}
    document_or(as_json, document, lambda: _show(built))


def _images(given: Mapping[str, GivenTask], data: str | None, listener: Listener) -> ImagesOf:
    """Decodes the images of a task when they are asked for."""
    from mimi_edge.export.engines.exporting import Labelled, TaskImages
    from mimi_edge.export.given import decoded_split

    # One task at a time: a split is asked for several times, and those of all tasks together may be too much.
    @lru_cache(maxsize=1)
    def images_of(name: str) -> TaskImages:
        if name not in given:
            return TaskImages()
        found = given[name]

        @cache
        def training() -> Any:
            split = decoded_split(found, data, listener, split="train", at_most=LOOKED_AT)
            return None if split is None else split.images

        @cache
        def labelled(which: str) -> Labelled | None:
            split = decoded_split(found, data, listener, split=which)
            return None if split is None else Labelled(split.images, split.labels)

        return TaskImages(training, lambda: labelled("val"), lambda: labelled("test"))

    return images_of


def _document(engine: ShelvedEngine) -> dict[str, Any]:
    sidecar = engine.sidecar
    return {
        "name": engine.name,
        "engine": str(engine.path),
        "engine_bytes": sidecar.size_bytes,
        "sha256": sidecar.sha256,
        "backend": f"{sidecar.backend.value} {sidecar.version}",
        "gpu": sidecar.gpu,
        "compute_capabilities": list(sidecar.compute_capabilities),
        "tasks": sorted(sidecar.tasks),
        "build_seconds": sidecar.build_seconds,
        "timing_cache": sidecar.timing_cache,
        "kept_fp32": dict(sidecar.kept_fp32),
        "prefix_blocks": sidecar.prefix_blocks,
        "check": sidecar.check if isinstance(sidecar.check, str) else dict(sidecar.check),
    }


def _show(built: Mapping[Path, Sequence[ShelvedEngine]]) -> None:
    for engines in built.values():
        for engine in engines:
            show_facts(f"Engine {engine.name}", _facts(engine))


def _facts(engine: ShelvedEngine) -> dict[str, str]:
    sidecar = engine.sidecar
    where = sidecar.gpu or "compute capability " + ", ".join(sidecar.compute_capabilities)
    facts = {
        "file": f"{engine.path}, {sidecar.size_bytes:,} bytes",
        "tasks": ", ".join(sorted(sidecar.tasks)),
        "built": f"in {sidecar.build_seconds:.1f} s for {where}, timing cache: {sidecar.timing_cache}",
        "layers in fp32": _counted(sidecar.kept_fp32.values()) if sidecar.kept_fp32 else "none kept",
        "blocks once a frame": str(sidecar.prefix_blocks),
        "against ONNX Runtime": check_in_words(sidecar.check),
    }
    if isinstance(sidecar.check, Mapping) and isinstance(switch := sidecar.check.get("switch"), dict):
        facts["task switch"] = f"{switch['p50_us']:.0f} us, answers bit-equal afterwards"
    if isinstance(sidecar.check, Mapping) and "int8" in sidecar.check:
        facts["int8"] = "; ".join(sidecar.check["int8"])
    return facts if sidecar.mixed else {name: fact for name, fact in facts.items() if name != "blocks once a frame"}


def _counted(reasons: Iterable[str]) -> str:
    """How many layers stay in fp32 for which kind of reason."""
    counts = Counter(reason.partition(":")[0] for reason in reasons)
    return ", ".join(f"{count} for {reason}" for reason, count in counts.most_common())


def check_in_words(check: object) -> str:
    """What the proof of an engine found, in a few words."""
    if not isinstance(check, dict):
        return str(check)
    outputs = check.get("outputs")
    if not isinstance(outputs, dict):
        return str(outputs)
    return "; ".join(f"{task}: {_task_in_words(one)}" for task, one in outputs.items())


def _task_in_words(one: object) -> str:
    if not isinstance(one, dict):
        return str(one)
    return f"{one['same_top1']}/{one['images']} same top-1, logits within {one['relative_difference']:.1e}"
