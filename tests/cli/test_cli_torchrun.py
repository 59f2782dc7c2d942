"""`torchrun ... -m mimi_edge train`: asked to stop, robbed of a process, gone on with by others and by one alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_world import SMALL

EPOCHS, BUDGET = 3, 20_000
TRAIN = ("train", *SMALL, "--epochs", str(EPOCHS), "--budget-mb", str(BUDGET / 1e6))
SECONDS = 120


def together(processes: int, folder: Path, *options: str) -> subprocess.Popen[str]:
    """Training by several; what it says on stderr goes to a file beside the run."""
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    return subprocess.Popen(
        [*command, "-m", "mimi_edge", *options],
        stdout=subprocess.DEVNULL,
        stderr=folder.with_name("said").open("w"),
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MIMI_EDGE_CACHE": str(folder.with_name("cache"))},
    )


def wait_for(there: Callable[[], object], process: subprocess.Popen[str], said: Path) -> None:
    end = time.monotonic() + SECONDS
    while not there():
        assert process.poll() is None, said.read_text()[-3000:]
        assert time.monotonic() < end, said.read_text()[-3000:]
        time.sleep(0.05)


def epochs_logged(folder: Path) -> int:
    log = folder / "log.csv"
    return len(log.read_text().splitlines()) - 1 if log.exists() else 0


def process_of_rank(launcher: int, number: int) -> int | None:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    asked = f"RANK={number}\0"
    found = [int(one) for one in children if f"\0{asked}" in Path(f"/proc/{one}/environ").read_text()]
    return found[0] if found else None


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes as Linux shows them")
def test_stopped_then_robbed_of_a_process_then_gone_on_with_by_one(pictures: Path, tmp_path: Path) -> None:
    folder, said = tmp_path / "run", tmp_path / "said"
    process = together(2, folder, *TRAIN, "--data", str(pictures), "--output", str(folder))
    wait_for(lambda: epochs_logged(folder) >= 1, process, said)
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) != 0
    assert said.read_text().count("Nothing is lost; go on with") == 1
    stopped = epochs_logged(folder)

    process = together(3, folder, "train", "--resume", str(folder))
    wait_for(lambda: epochs_logged(folder) > stopped + EPOCHS, process, said)
    wait_for((folder / "checkpoint.safetensors").exists, process, said)
    os.kill(process_of_rank(process.pid, 1) or 0, signal.SIGKILL)
    assert process.wait(SECONDS) != 0
    assert said.read_text().count("What was saved last is kept; go on") == 1
    assert "3 processes share each batch; gradients that are added up: " in said.read_text()

    done = subprocess.run(
        [sys.executable, "-m", "mimi_edge", "train", "--resume", str(folder), "--json"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MIMI_EDGE_CACHE": str(tmp_path / "cache")},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((folder / "report.json").read_text())
    assert [(entry["round"], entry["epoch"]) for entry in report["history"]] == [
        (number, epoch) for number in range(len(report["neurons"])) for epoch in range(EPOCHS)
    ]
    shared = [entry.get("processes", 1) for entry in report["history"]]
    assert shared == sorted(shared, key=[2, 3, 1].index)
    assert set(shared) == {1, 2, 3}
    assert report["size_bytes"] <= BUDGET
    assert not list(folder.glob("*.part*"))


@pytest.mark.parametrize("number", ["0", "1"])
def test_wrong_options_are_told_once(number: str) -> None:
    ranks = {"RANK": number, "WORLD_SIZE": "2", "LOCAL_RANK": number, "LOCAL_WORLD_SIZE": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "mimi_edge", "train", "--budget-mb", "0.1", "--rho", "5"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | ranks,
        check=False,
    )
    assert done.returncode == 2
    assert ("--rho must lie between 0 and 1" in done.stderr) is (number == "0")
    assert bool(done.stderr) is (number == "0")
