"""`mimi-edge inspect`: what a task file, a package, a graph or a run folder holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimi_edge.cli.defaults import PACKAGE, TASK_SUFFIX, default_package, is_package, is_run, newest_run, say_next
from mimi_edge.cli.inspected import ARCHIVE_SUFFIXES, Inspected, adapters, archive, is_adapters, report
from mimi_edge.cli.options import AsJson
from mimi_edge.cli.output import document_or, explained, show_facts, show_table
from mimi_edge.cli.rounds import show_rounds
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.profiles.rendering.table import Table
from mimi_edge.sites import network_order

if TYPE_CHECKING:
    from mimi_edge.choices import Store
    from mimi_edge.export.engines.shelf.shelf import ShelvedEngine
    from mimi_edge.images.preprocessing import Preprocessing

GRAPH_SUFFIX = ".onnx"
REPORT_SUFFIX = ".json"
MOST_CLASSES = 20
NO_HASH = "without a hash of its own, as earlier releases wrote them: whether it was altered cannot be told"


@explained
def command(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="A task file, a package, an .onnx graph, a run folder, an archive, a folder of adapters or a report.",
            show_default="package/, else the newest finished run in runs/",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a task file, package, graph, run folder, archive, folder of adapters or report holds.

    Of a package, sizes are compared and headers are read: mimi-edge verify looks at every byte.
    """
    document, show = _inspected(_here() if path is None else path)
    document_or(as_json, document, show)


def _here() -> Path:
    """What there is to look at: the package, and where none was made, the newest run."""
    return default_package() if is_package(PACKAGE) else newest_run()


def _inspected(path: Path) -> Inspected:
    if not path.exists():
        raise ArtifactError(f"There is no {path}. Check the path.")
    if (looking := _looking(path)) is not None:
        return looking(path)
    raise ConfigError(
        f"{path} is nothing that can be inspected. Expected a task file ({TASK_SUFFIX}), a graph ({GRAPH_SUFFIX}), "
        f"a package, a run folder, an archive ({', '.join(ARCHIVE_SUFFIXES)}), a folder of adapters or a report "
        f"({REPORT_SUFFIX})."
    )


def _looking(path: Path) -> Callable[[Path], Inspected] | None:
    """What looks into a thing of this kind, None where it is none that we know."""
    folders = ((is_package, _package), (is_run, _run), (is_adapters, adapters))
    files = {
        TASK_SUFFIX: _task,
        GRAPH_SUFFIX: _graph,
        REPORT_SUFFIX: report,
        **dict.fromkeys(ARCHIVE_SUFFIXES, archive),
    }
    return next((look for is_one, look in folders if is_one(path)), None) or files.get(path.suffix)


def _task(path: Path) -> Inspected:
    from mimi_edge.tasks.descriptions import method_in_words
    from mimi_edge.tasks.files import open_task
    from mimi_edge.tasks.task import HEAD_WEIGHT

    file = open_task(path)
    task, content = file.task, file.stated_sha256
    header = task.header
    document: dict[str, Any] = {
        "kind": "task",
        "path": str(path),
        "size_bytes": len(file.content),
        "name": header.name,
        "backbone": asdict(header.backbone),
        "classes": list(header.classes),
        "accuracy": {split: asdict(value) for split, value in header.accuracy.items()},
        "store": header.store.value,
        "head_store": header.store_of(HEAD_WEIGHT).value,
        "activation": header.activation,
        "method": asdict(header.method),
        "preprocessing": header.preprocessing.document(),
        "sites": {
            site: {"width": task.widths[site], "neurons": task.neurons[site]} for site in network_order(task.neurons)
        },
        "training_sha256": header.training_sha256,
        "versions": dict(header.versions),
        "content_sha256": content,
    }

    def show() -> None:
        rows = [(site, entry["width"], entry["neurons"]) for site, entry in document["sites"].items()]
        if rows:
            show_table(Table.of("Adapters", ("site", "width M", "neurons N"), rows))
        accuracy = ", ".join(f"{split} {value.accuracy:.2%}" for split, value in header.accuracy.items())
        show_facts(
            f"Task {header.name}",
            {
                "size": f"{document['size_bytes']:,} bytes, weights as {_stores(header.store, header.head_store)}",
                "backbone": header.backbone,
                "method": method_in_words(header.method),
                **({"neurons": f"{sum(task.neurons.values())} at {len(task.neurons)} sites"} if task.neurons else {}),
                "classes": _classes(header.classes),
                "accuracy": accuracy,
                "images": _preprocessing(header.preprocessing),
                "made by": ", ".join(f"{name} {version}" for name, version in header.versions.items()),
                "content": NO_HASH if content is None else f"as its own sha256 says, {content[:12]}",
            },
        )

    return document, show


def _package(path: Path) -> Inspected:
    from mimi_edge.export.engines.shelf.shelf import read_shelf
    from mimi_edge.export.open_packages import read_package, undisturbed
    from mimi_edge.tasks.files import read_outline

    with undisturbed([path]):
        package, shelf = read_package(path, verify=False), read_shelf(path)
        headers = {name: read_outline(task.task_file).header for name, task in package.tasks.items()}
    document: dict[str, Any] = {
        "kind": "package",
        "path": str(path),
        "backbone": asdict(package.backbone) | {"input_size": package.input_size.document},
        "backbone_bytes": package.backbone_graph.stat().st_size + package.backbone_weights.stat().st_size,
        "tasks": {
            name: {
                "task_file": task.task_file.name,
                "task_file_bytes": task.task_file.stat().st_size,
                "graph": task.graph.name,
                "graph_bytes": task.graph.stat().st_size,
                "classes": list(headers[name].classes),
                "check": dict(task.check),
            }
            for name, task in package.tasks.items()
        },
        "engines": {name: _engine(engine) for name, engine in shelf.items()},
    }

    def show() -> None:
        rows = [
            (
                name,
                len(task["classes"]),
                f"{task['task_file_bytes']:,}",
                f"{task['graph_bytes']:,}",
                _tested(headers, name),
            )
            for name, task in document["tasks"].items()
        ]
        columns = ("task", "classes", "task file, bytes", "graph, bytes", "test accuracy")
        show_table(Table.of(f"Package {path}", columns, rows))
        show_facts(
            "Shared by all tasks",
            {
                "backbone": package.backbone,
                "size": f"{document['backbone_bytes']:,} bytes",
                "input": f"{package.input_size.in_words} pixels",
            },
        )
        for name, engine in document["engines"].items():
            show_facts(f"Engine {name}", {key.replace("_", " "): value for key, value in engine.items() if value})

    return document, show


def _engine(engine: ShelvedEngine) -> dict[str, Any]:
    sidecar = engine.sidecar
    return {
        "engine_file": engine.path.name,
        "engine_bytes": sidecar.size_bytes,
        "backend": f"{sidecar.backend.value} {sidecar.version}",
        "built_for": sidecar.gpu or f"compute capability {', '.join(sidecar.compute_capabilities)}",
        "tasks": ", ".join(sidecar.tasks),
        "batches": ", ".join(f"{name} {sizes}" for name, sizes in sidecar.ranges.items()),
        "stale": engine.stale,
        "proof": "held against its tasks" if sidecar.unproved is None else f"NOT PROVED: {sidecar.unproved}",
    }


def _graph(path: Path) -> Inspected:
    from mimi_edge.export.graphs import open_graph_file

    graph = open_graph_file(path)
    info, operators = graph.info, Counter(node.op_type for node in graph.model().graph)
    document: dict[str, Any] = {
        "kind": "graph",
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "backbone": asdict(info.backbone),
        "preprocessing": info.preprocessing.document(),
        "sites": {site.name: {"width": site.width, "tokens": site.tokens} for site in info.sites},
        "task": None if info.task is None else asdict(info.task),
        "operators": dict(operators.most_common()),
    }

    def show() -> None:
        show_table(Table.of("Operators", ("operator", "nodes"), list(document["operators"].items())))
        facts = {
            "size": f"{document['size_bytes']:,} bytes, without weights",
            "backbone": f"{info.backbone}, {len(info.sites)} sites",
            "images": _preprocessing(info.preprocessing),
        }
        if info.task is not None:
            neurons = f", {sum(info.task.neurons.values())} neurons" if info.task.neurons else ""
            facts["task"] = f"{info.task.name}, {info.task.method}{neurons}, {info.task.store}"
            facts["classes"] = _classes(info.task.classes)
        show_facts(f"Graph {path.name}", facts)

    return document, show


def _run(path: Path) -> Inspected:
    from mimi_edge.training.config import config_document
    from mimi_edge.training.reports import finished_report
    from mimi_edge.training.run_folders import open_run

    run = open_run(path)
    config = config_document(run.config)
    task, show_task = _task(run.task_path) if run.is_finished else (None, None)
    report = finished_report(path, run.name)
    rounds = () if report is None else report.rounds
    document = {
        "kind": "run",
        "path": str(path),
        "config": config,
        "finished": task is not None,
        "task": task,
        "rounds": [asdict(point) for point in rounds],
    }

    def show() -> None:
        show_facts(f"Run {path}", _asked(config))
        if show_task is not None:
            show_task()
            show_rounds(rounds)
        else:
            say_next("mimi-edge", "train", "--resume", path)

    return document, show


def _asked(config: Mapping[str, Any]) -> dict[str, str]:
    """What a run was asked to do, in words; what was left open is left out."""
    budget = config["budget"]
    size, flops = budget["size_bytes"], budget["flops"]
    limits = [f"{size:,} bytes"] if size is not None else []
    limits += [f"{flops / 1e9:.5g} GFLOPs"] if flops is not None else []
    words = {"budget": f"at most {' and '.join(limits)}" if limits else "none"}
    for name, value in config.items():
        if name not in words and value is not None and (said := _value_in_words(value)):
            words[name.replace("_", " ")] = said
    return words


def _value_in_words(value: Any) -> str:
    """What an option was set to; nothing for a collection that holds nothing."""
    if isinstance(value, bool):
        return ("no", "yes")[value]
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value_in_words(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_value_in_words, value))
    return str(value)


def _tested(headers: Mapping[str, Any], name: str) -> str:
    tested = headers[name].accuracy.get("test")
    return "not known" if tested is None else f"{tested.accuracy:.2%}"


def _stores(store: Store, of_head: Store | None) -> str:
    return store.value if of_head is None else f"{store.value}, the head's as {of_head.value}"


def _classes(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:MOST_CLASSES])
    return f"{len(classes)}: {shown}" + (", ..." if len(classes) > MOST_CLASSES else "")


def _preprocessing(given: Preprocessing) -> str:
    return (
        f"{given.size.in_words} pixels out of {given.resize}, {given.interpolation}, mean {list(given.mean)}, "
        f"std {list(given.std)}"
    )
