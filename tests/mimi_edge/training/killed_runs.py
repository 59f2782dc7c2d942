"""Run as a program: kills a run again and again, lets it end, and says as JSON what happened.

One process that has torch loaded forks the runs: loading it anew for every kill would take most of the time.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from training_samples import small_config, tiny_runs

from mimi_edge.training.runs import resume_training, run_training

KILLS = 8


def child(work: Callable[[], object]) -> int:
    """Starts a copy of this process that does something and ends."""
    if process := os.fork():
        return process
    code = 1
    try:
        torch.set_num_threads(1)
        with tiny_runs():
            work()
        code = 0
    finally:
        os._exit(code)


def ended_well(process: int) -> bool:
    return os.waitpid(process, 0)[1] == 0


def begin_or_go_on(data: Path, folder: Path) -> None:
    if (folder / "config.json").exists():
        resume_training(folder, checkpoint_seconds=0)
    else:
        run_training(small_config(data, epochs=6), folder, checkpoint_seconds=0)


def saved(folder: Path) -> int:
    checkpoint = folder / "checkpoint.safetensors"
    return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0


def place(folder: Path) -> dict[str, int] | None:
    """Where the last checkpoint stands."""
    if not saved(folder):
        return None
    content = (folder / "checkpoint.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"]["mimi_edge_checkpoint"])["place"]


def kill_somewhere(data: Path, folder: Path, delay: float, *, while_training: bool) -> bool:
    """Whether the run was killed; it may have ended before."""
    before, process = saved(folder), child(lambda: begin_or_go_on(data, folder))
    while while_training and saved(folder) == before:
        ended, _ = os.waitpid(process, os.WNOHANG)
        if ended:
            return False
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def main(data: Path, root: Path, seed: int) -> None:
    chance = random.Random(seed)
    started = time.monotonic()
    whole = ended_well(child(lambda: begin_or_go_on(data, root / "whole")))
    lasts = time.monotonic() - started
    folder, places, early_files = root / "killed", [], []
    for kill in range(KILLS):
        while_training = kill % 4 < 3
        delay = chance.uniform(0, lasts / (20 if while_training else 3))
        if not kill_somewhere(data, folder, delay, while_training=while_training):
            break
        places.append(place(folder))
        early_files += [path.name for path in folder.glob("[!.]*")]
    ended = ended_well(child(lambda: begin_or_go_on(data, folder)))
    print(json.dumps({"whole": whole, "ended": ended, "places": places, "files": sorted(set(early_files))}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
