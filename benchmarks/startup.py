"""How long the command line takes to answer, as whole processes, beside a Python that does nothing.

Every round starts `python -c pass`, `mimi-edge --help` and `mimi-edge inspect FILE` in random order. FILE is a task
file of 0.5 MB with random weights, made for the occasion.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from common import compared, parser, random_task, show

from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.profiles.environment import current_environment
from mimi_edge.profiles.latency import WarmUp, measure
from mimi_edge.sites import Site
from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.task import BackboneIdentity

BARE = "python -c pass"
COMMAND = Path(sys.executable).with_name("mimi-edge")
DEPTHS_AND_WIDTHS = ((2, 96), (2, 192), (6, 384), (2, 768))


def main() -> None:
    """Measures and prints."""
    options = parser(__doc__, rounds=20).parse_args()
    environment = current_environment()
    with tempfile.TemporaryDirectory() as folder:
        file = write_swin_t_task(Path(folder), options.seed)
        commands: dict[str, Sequence[str]] = {
            BARE: (sys.executable, "-c", "pass"),
            "mimi-edge --help": (str(COMMAND), "--help"),
            "mimi-edge inspect FILE": (str(COMMAND), "inspect", str(file)),
        }
        runnables = {name: process(command) for name, command in commands.items()}
        samples = measure(runnables, rounds=options.rounds, seed=options.seed, warm_up=WarmUp(window=1, most_rounds=3))
    rows = [compared(name, BARE, samples) for name in commands if name != BARE]
    show(rows, environment, as_json=options.json)


def process(command: Sequence[str]) -> Callable[[], object]:
    """Runs a command to its end; a failure ends the benchmark."""
    return partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def write_swin_t_task(folder: Path, seed: int) -> Path:
    """A task file for Swin-T, without Swin-T."""
    sites = [
        Site(f"layers.{stage}.blocks.{block}.{kind}", width, (56 >> stage) ** 2)
        for stage, (depth, width) in enumerate(DEPTHS_AND_WIDTHS)
        for block in range(depth)
        for kind in ("attn", "mlp")
    ]
    preprocessing = Preprocessing(224, 248, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    backbone = BackboneIdentity("swin_tiny_patch4_window7_224", "0" * 64, DEPTHS_AND_WIDTHS[-1][1])
    file = folder / "random.safetensors"
    write_task(random_task("random", backbone, sites, preprocessing, seed=seed), file)
    return file


if __name__ == "__main__":
    main()
