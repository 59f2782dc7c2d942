"""`mimi-edge export --format triton`: a model repository for NVIDIA's Triton server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mimi_edge.cli.formats.onnx import Making
from mimi_edge.cli.output import document_or, say, show_table
from mimi_edge.cli.progress import watching
from mimi_edge.profiles.rendering.table import Table


def export(
    sources: Sequence[Path], output: Path, making: Making, *, tasks: Sequence[str] | None, as_json: bool
) -> None:
    """Writes a model for each task; says what lies where.

    Args:
        sources: one package; run folders and task files are put into one first; none is the run finished last.
        output: folder to make.
        making: how tasks become a package.
        tasks: names of those to export; all by default.
        as_json: print JSON.

    Raises:
        ConfigError: several packages were given.
    """
    from mimi_edge.cli.formats.targets import only_target
    from mimi_edge.export.open_packages import opened_package
    from mimi_edge.export.triton import export_triton

    target = only_target(sources, making, as_json=as_json)
    with watching() as listener, opened_package(target.package.folder, tasks) as package:
        made = export_triton(package, output, tasks, listener=listener)
    models = {name: {"folder": str(one.folder), "size_bytes": one.size_bytes} for name, one in made.models.items()}
    rows = [(name, str(one.folder), f"{one.size_bytes:,}") for name, one in made.models.items()]
    title = f"Triton model repository {made.folder}"
    document = {"folder": str(made.folder), "models": models}
    document_or(as_json, document, lambda: show_table(Table.of(title, ("model", "folder", "bytes"), rows)))
    say(f"Next: tritonserver --model-repository={made.folder.absolute()}")
