"""`mimi-edge export --format trt`: TensorRT engines for a package's tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.choices import Strategy
from mimi_edge.cli.defaults import PACKAGE, say_next
from mimi_edge.cli.output import document_or, show_facts
from mimi_edge.cli.progress import watching
from mimi_edge.errors import ConfigError
from mimi_edge.runtimes import ENGINE_BACKENDS

if TYPE_CHECKING:
    from mimi_edge.cli.formats.onnx import Making
    from mimi_edge.cli.formats.targets import Target
    from mimi_edge.events import Listener
    from mimi_edge.export.engines.building.work import EngineOptions, ImagesOf
    from mimi_edge.export.engines.shelf.shelf import ShelvedEngine
    from mimi_edge.export.given import GivenTask
    from mimi_edge.images.decode import LabelledImages

LOOKED_AT = 64
"""Training images that are looked at for overflow or calibrated on, spread over the split."""


def engine_options(asked: Mapping[str, Any]) -> EngineOptions:
    """What options of engines ask for, by their parameters in `mimi-edge export`; None is the default.

    Raises:
        ConfigError: the options contradict each other.
    """
    from mimi_edge.export.engines.building.requests import BatchRange
    from mimi_edge.export.engines.building.work import EngineOptions

    given = {name: value for name, value in asked.items() if value is not None}
    if "backend" in given and given["backend"] not in ENGINE_BACKENDS:
        raise ConfigError(f"Engines come from trt or trt-rtx; got --backend {given['backend'].value}.")
    if "batch" in given:
        given["batch"] = BatchRange.parse(given["batch"])
    return EngineOptions(compute_capabilities=tuple(given.pop("compute_capability", ())), **given)


def export(
    sources: Sequence[Path],
    asked: Mapping[str, Any],
    making: Making,
    *,
    tasks: Sequence[str] | None,
    runs: Sequence[Path],
    as_json: bool,
) -> None:
    """Builds engines for packages, proves them where a GPU is, and puts them on the packages' shelves.

    Args:
        sources: packages; run folders and task files are put into one first; none is the run that was finished last.
        asked: as of `engine_options`.
        making: how tasks become a package; its threads and data are for engines, too.
        tasks: names of those to build for; by default those of the sources.
        runs: run folders of tasks, for their images; by default those among the sources.
        as_json: print JSON.

    Raises:
        ConfigError: the options contradict each other.
    """
    from mimi_edge.cli.formats.targets import targets

    options = engine_options(asked)
    found = targets(sources, making, as_json=as_json)
    built = {
        target.package.folder: _built(
            replace(target, runs=tuple(runs) or target.runs), options, making, tasks or _tasks(target, options.strategy)
        )
        for target in found
    }
    document = {
        "packages": {str(folder): [_document(one) for one in engines] for folder, engines in built.items()},
        "packaged": [target.document for target in found if target.document is not None],
    }
    document_or(as_json, document, lambda: _show(built))
    say_next(*_profile_command(found[0], built[found[0].package.folder], bare=not sources))


def _built(target: Target, options: EngineOptions, making: Making, tasks: Sequence[str] | None) -> list[ShelvedEngine]:
    from mimi_edge.cli.stop_requests import stop_requests
    from mimi_edge.export.engines.export import export_engines
    from mimi_edge.export.given import given_of_package
    from mimi_edge.export.open_packages import opened_package
    from mimi_edge.profiles.ratios import measured_ratio

    with ExitStack() as stack:
        listener = stack.enter_context(watching())
        should_stop = stack.enter_context(stop_requests(listener))
        package = stack.enter_context(opened_package(target.package.folder, tasks))
        given = given_of_package(package, tasks or (), target.runs, making.data)
        return export_engines(
            package,
            options,
            tasks=tasks,
            images=_images(given, making.data, listener),
            speed=measured_ratio,
            threads=making.threads,
            should_stop=should_stop,
            listener=listener,
        )


def _tasks(target: Target, strategy: Strategy) -> tuple[str, ...] | None:
    """One engine that serves several tasks is for all of a package, whichever of them is new."""
    return target.tasks if strategy is Strategy.PER_TASK else None


def _profile_command(target: Target, engines: Sequence[ShelvedEngine], *, bare: bool) -> list[str]:
    """The line that measures engines that run here, else the graphs they were built from."""
    if bare and target.package.folder == PACKAGE:
        return ["mimi-edge", "profile"]
    runs = [part for run in target.runs for part in ("--run", str(run))]
    on = [one.sidecar.backend.value for one in engines if one.sidecar.gpu is not None]
    backend = ["--backend", on[0]] if on else []
    return ["mimi-edge", "profile", str(target.package.folder), *runs, *backend]


def _images(given: Mapping[str, GivenTask], data: str | None, listener: Listener) -> ImagesOf:
    """Decodes the images of a task when they are asked for."""
    from mimi_edge.export.engines.building.work import TaskImages
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
        def labelled(which: str) -> LabelledImages | None:
            return decoded_split(found, data, listener, split=which)

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
