"""`mimi_edge.export` and `mimi_edge.merge`: what `mimi-edge export` does, as calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.events import Listener, silent

if TYPE_CHECKING:
    from mimi_edge.export.merge import Merged
    from mimi_edge.export.open_packages import Package


def export(
    runs: str | Path | Sequence[str | Path],
    package: str | Path = "package",
    *,
    data: str | Path | None = None,
    weights: str | None = None,
    backbone_graph: str | Path | None = None,
    threads: int | None = None,
    listener: Listener = silent,
) -> Package:
    """Merges the tasks of runs into an ONNX graph each, checks them, and puts them into a package.

    Args:
        runs: a run folder or a task file, or several.
        package: folder to make or to add to.
        data: where the images are, where not those of the run.
        weights: of the backbone, likewise.
        backbone_graph: folder with an exported `backbone.onnx`; then torch is not needed.
        threads: of ONNX Runtime.
        listener: hears how far it is.

    Raises:
        ArtifactError: a task or the package belongs to another backbone, or a file is damaged.
        ConfigError: a source is no finished run, or a name or the data cannot be used.
        ExportMismatchError: a graph does not answer what was trained; nothing was published.
        MimiEdgeError: torch is needed and not installed.
    """
    from mimi_edge.export.from_runs import package_of_runs

    several = [runs] if isinstance(runs, str | Path) else runs
    return package_of_runs(
        [Path(run) for run in several],
        Path(package),
        data=None if data is None else str(data),
        weights=weights,
        backbone_graph=None if backbone_graph is None else Path(backbone_graph),
        threads=threads,
        listener=listener,
    )


def merge(backbone_graph: str | Path, task_file: str | Path, out: str | Path) -> Merged:
    """Writes the graph of a backbone with a task in it; it holds no weights, and all three lie in one folder.

    Args:
        backbone_graph: `backbone.onnx`.
        task_file: the task's `.safetensors` file.
        out: the graph to write.

    Raises:
        ArtifactError: the task belongs to another backbone, or a file is damaged.
        ConfigError: the three are not in one folder.
    """
    from mimi_edge.export import merge as merging

    return merging.merge(Path(backbone_graph), Path(task_file), Path(out))
