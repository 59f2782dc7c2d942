"""How long merging a 0.5 MB task into Swin-T takes, in one process, beside writing a full model instead.

The peer copies the backbone's graph and its weight file: the least that a model of its own for each task would cost on
this disk.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path

from common import compared, neurons_note, parser, show
from graphs import exported, with_task

from mimi_edge.export.graphs import BackboneGraph
from mimi_edge.export.merge import merge
from mimi_edge.profiles.environment import current_environment
from mimi_edge.profiles.latency import measure

MERGE = "merging a task"
COPY = "copying the backbone"


def main() -> None:
    """Measures and prints."""
    options = parser(__doc__, rounds=20).parse_args()
    environment = current_environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backbone = exported("swin_tiny_patch4_window7_224", folder, options.seed)
        task, merged = with_task(backbone, options.seed)
        task_file = folder / "random.safetensors"
        runnables = {
            MERGE: partial(merge, backbone.path, task_file, merged.path),
            COPY: partial(copy, backbone, folder / "copy"),
        }
        samples = measure(runnables, rounds=options.rounds, seed=options.seed)
        spread = neurons_note(task, backbone.info.sites, task_file.stat().st_size)
        full_bytes = backbone.path.stat().st_size + backbone.weights.stat().st_size
        note = f"graph {merged.size_bytes:,} bytes and task file {spread}; the copy {full_bytes:,} bytes"
    show([compared(MERGE, COPY, samples, note)], environment, as_json=options.json)


def copy(backbone: BackboneGraph, folder: Path) -> None:
    """Copies graph and weights."""
    folder.mkdir(exist_ok=True)
    for path in (backbone.path, backbone.weights):
        shutil.copyfile(path, folder / path.name)


if __name__ == "__main__":
    main()
