"""How much processor time one task costs in a package of 1, 10, 100 and 1,000, as ratios to a package of one.

The packages have the built-in backbone and small random tasks. Every round does the same work once in each package, in
random order, in one process: loading one task, finding it for a profile, `inspect`, the ledger, installing one more
task and taking it back, exporting one more.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from common import parser, random_task
from graphs import exported

from mimi_edge.export.archives.install import install_from
from mimi_edge.export.manifest import TaskEntry, read_manifest, write_manifest
from mimi_edge.export.open_packages import opened_package, read_package
from mimi_edge.export.packages import create_or_extend, roll_back
from mimi_edge.export.serving.find import serving
from mimi_edge.profiles.fleet import fleet_ledger
from mimi_edge.profiles.runtimes.artefact import Wanted
from mimi_edge.profiles.runtimes.find import find_artefacts
from mimi_edge.tasks.files import read_outline, write_task
from mimi_edge.tasks.task import Task

COUNTS = (1, 10, 100, 1000)
TASK_BYTES = 20_000
WANTED = "task0"
MORE = ("installed", "exported")

Work = Callable[[Path, Path], object]
"""A package and a folder with the files of two tasks that it does not have."""


def main() -> None:
    """Measures and prints."""
    options = parser(__doc__, rounds=5)
    options.add_argument("--most", type=int, default=COUNTS[-1], help="tasks of the largest package")
    asked = options.parse_args()
    counts = [count for count in COUNTS if count <= asked.most]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packages = _packages(folder, counts, asked.seed)
        seconds = _measured(packages, folder, asked.rounds, asked.seed)
    print(json.dumps(seconds, indent=1) if asked.json else _table(seconds, counts))


def _packages(folder: Path, counts: Sequence[int], seed: int) -> dict[int, Path]:
    """A package of each size, and in the folder the files of two tasks more.

    All tasks but the first are copies of its files under other names: merging a thousand would take minutes.
    """
    (folder / "backbone").mkdir()
    backbone = exported("builtin", folder / "backbone", seed)
    info = backbone.info
    task = random_task("any", info.backbone, info.sites, info.preprocessing, seed=seed, budget_bytes=TASK_BYTES)
    for name in MORE:
        _task_file(folder, task, name)
    first = create_or_extend(folder / "first", backbone.folder, [_task_file(folder, task, WANTED)]).folder
    return {count: _multiplied(first, folder / str(count), count) for count in counts}


def _multiplied(first: Path, package: Path, count: int) -> Path:
    """A package of so many tasks, out of one with one."""
    shutil.copytree(first, package)
    manifest = read_manifest(package)
    files, tasks = dict(manifest.files), dict(manifest.tasks)
    for name in (f"task{index}" for index in range(1, count)):
        for suffix in (".onnx", ".safetensors"):
            shutil.copyfile(first / (WANTED + suffix), package / (name + suffix))
            files[name + suffix] = files[WANTED + suffix]
        tasks[name] = TaskEntry(f"{name}.safetensors", f"{name}.onnx", tasks[WANTED].check)
    write_manifest(package, replace(manifest, files=files, tasks=tasks))
    return package


def _task_file(folder: Path, task: Task, name: str) -> Path:
    write_task(replace(task, header=replace(task.header, name=name)), folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def _load(package: Path, _folder: Path) -> None:
    for _task in serving(package, [WANTED], threads=1).served():
        pass


def _find(package: Path, _folder: Path) -> None:
    find_artefacts([package], Wanted(tasks=(WANTED,)))


def _inspect(package: Path, _folder: Path) -> None:
    for task in read_package(package, verify=False).tasks.values():
        _ = read_outline(task.task_file).header


def _add_up(package: Path, _folder: Path) -> None:
    with opened_package(package, ()) as opened:
        fleet_ledger(opened)


def _install(package: Path, folder: Path) -> None:
    install_from(folder / f"{MORE[0]}.safetensors", package)
    roll_back(package)


def _export(package: Path, folder: Path) -> None:
    create_or_extend(package, None, [folder / f"{MORE[1]}.safetensors"])


WORK: dict[str, Work] = {
    "load one task (`predict --task`)": _load,
    "find one task (`profile --task`)": _find,
    "`install-task` and `--rollback`": _install,
    "`export` of one more task": _export,
    "`inspect` (all tasks)": _inspect,
    "`ledger` (all tasks)": _add_up,
}


def _measured(packages: dict[int, Path], folder: Path, rounds: int, seed: int) -> dict[str, dict[int, float]]:
    """Medians of processor seconds, by work and size of the package; the first round is not counted."""
    taken: dict[tuple[str, int], list[float]] = {}
    turns = random.Random(seed)  # noqa: S311  (an order, no secret)
    for _ in range(rounds + 1):
        for name, work in WORK.items():
            for count in turns.sample(list(packages), len(packages)):
                started = time.process_time()
                work(packages[count], folder)
                taken.setdefault((name, count), []).append(time.process_time() - started)
    return {name: {count: statistics.median(taken[name, count][1:]) for count in packages} for name in WORK}


def _table(seconds: dict[str, dict[int, float]], counts: Sequence[int]) -> str:
    lines = [
        "| work | " + " | ".join(f"{count:,} tasks" for count in counts) + " |",
        "|---|" + "---:|" * len(counts),
    ]
    for name, found in seconds.items():
        first = found[counts[0]]
        ratios = [f"{1000 * first:.0f} ms", *(f"{found[count] / first:.2f}" for count in counts[1:])]
        lines.append(f"| {name} | " + " | ".join(ratios) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
