"""The profiler against hand-made timings in the same run, and what its own bookkeeping costs.

1. `mimi-edge profile`'s process for a graph, and a plain loop around ONNX Runtime in a process of its own, take turns.
   A good answer is a ratio of p50 within 0.98 to 1.02.
2. A runnable that does nothing but wait 1 ms on the clock is timed by the profiler's loop, and by a loop that reads the
   clock once before and once after all runs. A good answer is less than 1 % more.
3. A package's ledger against `du`: the same bytes.
4. With `--aa N`, and then nothing else: N times what `mimi-edge profile` does by default, of a graph and its copy in
   folders of their own. A good answer is "yes" in at most 1 of 20; on a busy machine it may be "too busy to tell".
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import Row, parser, show
from graphs import exported, with_task

from mimi_edge.export.open_packages import Package, read_package
from mimi_edge.export.packages import create_or_extend
from mimi_edge.profiles.environment import current_environment
from mimi_edge.profiles.inventory import package_inventory
from mimi_edge.profiles.latency import ALIKE, SEEN, UNSURE, Ratio, Samples, summarise
from mimi_edge.profiles.plan import Plan
from mimi_edge.profiles.processes import COMMAND, Crew
from mimi_edge.profiles.profiler import profile
from mimi_edge.profiles.ratios import ratio
from mimi_edge.profiles.runtimes.artefact import Artefact, Wanted
from mimi_edge.profiles.runtimes.find import find_artefacts
from mimi_edge.profiles.teams import DEFAULT_PROCESSES
from mimi_edge.profiles.turns import take_turns
from mimi_edge.profiles.worker import timed

BACKBONES = {"Swin-T": "swin_tiny_patch4_window7_224", "built-in": "builtin"}
PEER_FLAG = "--as-peer"
WAIT_NS = 1_000_000
PROFILER, PEER = "profiler", "plain loop"


def main() -> None:
    """Measures and prints."""
    options = parser(__doc__, rounds=400)
    options.add_argument("--threads", type=int, default=1, help="of ONNX Runtime (default %(default)s)")
    options.add_argument("--batch", type=int, default=1, help="images at a time (default %(default)s)")
    options.add_argument("--processes", type=int, default=DEFAULT_PROCESSES, help="of each side (default %(default)s)")
    options.add_argument("--backbone", choices=BACKBONES, default="built-in", help="(default %(default)s)")
    options.add_argument("--package", type=Path, help="a package of yours instead")
    options.add_argument("--aa", type=int, metavar="N", help="profile a graph and its copy N times, and count")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        package = read_package(asked.package) if asked.package else _package(asked.backbone, Path(folder), asked.seed)
        found = find_artefacts([package.folder], Wanted(threads=asked.threads))
        if asked.aa:
            _show_copies(_against_its_copy(found[-1], Path(folder), asked), as_json=asked.json)
            return
        rows = [_against_a_plain_loop(one, asked) for one in found]
        rows.append(_bookkeeping(asked.rounds))
        show(rows, current_environment(threads=asked.threads), as_json=asked.json)
        if not asked.json:
            print(f"\n{_ledger_against_du(package)}")


def _package(backbone: str, folder: Path, seed: int) -> Package:
    """A backbone with a task of random weights that fills 0.5 MB."""
    (folder / "graph").mkdir()
    graph = exported(BACKBONES[backbone], folder / "graph", seed)
    with_task(graph, seed)
    return create_or_extend(folder / "package", graph.folder, [graph.folder / "random.safetensors"])


def _against_a_plain_loop(artefact: Artefact, asked: argparse.Namespace) -> Row:
    """Turns of the profiler's own processes and of some that speak its protocol and share none of its code.

    Several of each, because the same graph loaded again is a percent faster or slower, wherever its weights lie then.
    """
    profilers = [f"{PROFILER} {number}" for number in range(asked.processes)]
    peers = [f"{PEER} {number}" for number in range(asked.processes)]
    size = artefact.input_size
    with Crew() as crew:
        for name in (*profilers, *peers):
            crew.add(name, COMMAND if name in profilers else (sys.executable, str(Path(__file__).resolve()), PEER_FLAG))
            crew.ask(name, "opening", {"do": "open", "opening": artefact.opening.document()})
            crew.ask(name, "ready", {"do": "ready", "batch": asked.batch, "shape": [3, *size], "seed": asked.seed})
        teams = {PROFILER: profilers, PEER: peers}
        taken = take_turns(crew, teams, "latency", rounds=asked.rounds * asked.processes, seed=asked.seed)
        if crew.failures:
            raise SystemExit(str(crew.failures))
    profiled, plain = (taken.samples[name] for name in (PROFILER, PEER))
    return Row(
        measured=f"profiler, {artefact.name}, batch {asked.batch}",
        peer="plain loop around ONNX Runtime",
        measured_ms=summarise(profiled.latency_ns).p50_ms,
        peer_ms=summarise(plain.latency_ns).p50_ms,
        ratio=ratio(profiled, plain),
        rounds=asked.rounds,
        note=f"turns of {taken.turn.samples}, {asked.processes} processes each",
    )


def _against_its_copy(artefact: Artefact, folder: Path, asked: argparse.Namespace) -> list[Ratio]:
    """Ratios of a copy, with files of its own, to its original: whatever they say but 1 is not so."""
    graph = artefact.files[0]
    shutil.copytree(graph.parent, folder / "copy")
    copied = replace(artefact.opening, path=folder / "copy" / graph.name)
    pair = [replace(artefact, name="original"), replace(artefact, name="copy", opening=copied)]
    found = []
    for number in range(asked.aa):
        plan = Plan((asked.batch,), seed=asked.seed + number, processes=asked.processes)
        report = profile(pair, plan, threads=asked.threads)
        found += [one.ratio.ratio for one in report.artefact("copy").measurements if one.ratio is not None]
        if not asked.json:
            print(_in_words(found[-1]), flush=True)
    return found


def _in_words(one: Ratio) -> str:
    tied = "unknown" if one.correlation is None else f"{one.correlation:+.2f}"
    spread = "unknown" if one.spread is None else f"{one.spread:.3f}"
    interval = f"({one.low:.3f} to {one.high:.3f})"
    return f"{one.value:.3f} {interval}, turns tied by {tied}, spread of processes {spread}: {one.verdict}"


def _show_copies(found: list[Ratio], *, as_json: bool) -> None:
    counts = Counter(one.verdict for one in found)
    if as_json:
        print(json.dumps({"verdicts": counts, "ratios": [vars(one) for one in found]}, indent=1))
        return
    values = sorted(one.value for one in found)
    told = ", ".join(f"{verdict!r} {counts[verdict]}" for verdict in (SEEN, ALIKE, UNSURE))
    print(f"{len(found)} comparisons of a graph with its copy: {told}; ratios {values[0]:.3f} to {values[-1]:.3f}")


def _peer() -> None:
    """A person's own loop: a session, an array, a clock."""
    import onnxruntime

    images = session = None
    out = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request, answer = json.loads(line), {}
        if request["do"] == "open":
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = request["opening"]["threads"] or 0
            options.add_session_config_entry("session.force_spinning_stop", "1")
            session = onnxruntime.InferenceSession(
                request["opening"]["path"], options, providers=["CPUExecutionProvider"]
            )
        elif request["do"] == "ready":
            shape = (request["batch"], *request["shape"])
            images = np.random.default_rng(request["seed"]).standard_normal(shape, np.float32)
        elif request["do"] == "run":
            taken = []
            for _ in range(request["times"]):
                start = time.perf_counter_ns()
                session.run(None, {"images": images})
                taken.append(time.perf_counter_ns() - start)
            answer = {"ns": taken}
        out.write(json.dumps(answer) + "\n")
        out.flush()


def _bookkeeping(rounds: int) -> Row:
    """A wait of 1 ms in the profiler's loop, sample by sample, and in a loop that looks at the clock only around all.

    A wait until the clock shows 1 ms later cannot tell, because a look at the clock inside it would be forgiven. So the
    wait is a fixed number of empty turns, calibrated to 1 ms.
    """
    spins = _spins_of(WAIT_NS)

    def run(_images: object) -> None:
        for _ in range(spins):
            pass

    images = np.zeros(1, np.float32)
    profiled, plain = [], []
    for _ in range(max(100, rounds)):
        started = time.perf_counter_ns()
        timed(run, images, 10)
        profiled.append((time.perf_counter_ns() - started) // 10)
        started = time.perf_counter_ns()
        for _ in range(10):
            run(images)
        plain.append((time.perf_counter_ns() - started) // 10)
    return Row(
        measured="a wait of 1 ms in the profiler's loop, all of it",
        peer="the same wait, clock read only around ten",
        measured_ms=summarise(profiled).p50_ms,
        peer_ms=summarise(plain).p50_ms,
        ratio=ratio(*(Samples(tuple(taken), (), settled=True) for taken in (profiled, plain))),
        rounds=len(plain),
    )


def _spins_of(wanted_ns: int) -> int:
    """Empty turns of a loop that take so long."""
    tried = 200_000
    best = min(_spun(tried) for _ in range(20))
    return round(tried * wanted_ns / best)


def _spun(spins: int) -> int:
    started = time.perf_counter_ns()
    for _ in range(spins):
        pass
    return time.perf_counter_ns() - started


def _ledger_against_du(package: Package) -> str:
    """The inventory's sum, and what `du` says of the folder's files."""
    ledger = sum(package_inventory(package).values())
    command = ["find", str(package.folder), "-type", "f", "-print0"]
    files = subprocess.run(command, capture_output=True, check=True).stdout
    du = subprocess.run(
        ["du", "--apparent-size", "--block-size=1", "--total", "--files0-from=-"],
        input=files,
        capture_output=True,
        check=True,
    ).stdout.split(b"\n")
    total = int(du[-2].split()[0])
    return f"Ledger of the package: {ledger:,} bytes; du of its files: {total:,} bytes; difference {ledger - total:,}."


if __name__ == "__main__":
    if PEER_FLAG in sys.argv:
        _peer()
    else:
        main()
