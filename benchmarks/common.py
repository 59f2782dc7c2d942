"""What the benchmarks share: options, a task of a given size, and tables of ratios."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mimi_edge.errors import BudgetInfeasibleError
from mimi_edge.files import MEGABYTE
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.profiles.environment import Environment
from mimi_edge.profiles.latency import (
    Ratio,
    Runnable,
    Samples,
    WarmUp,
    measure,
    summarise,
)
from mimi_edge.profiles.ratios import ratio
from mimi_edge.sites import Site
from mimi_edge.tasks.sizes import size_bytes
from mimi_edge.tasks.stores import Floats, Store
from mimi_edge.tasks.task import (
    AdapterWeights,
    BackboneIdentity,
    HeadWeights,
    Task,
    TaskHeader,
    bottleneck_shapes,
    encode_weights,
)

BUDGET_BYTES = MEGABYTE // 2
CLASSES = tuple(f"class {index}" for index in range(10))
WARM_UP = WarmUp(window=3, most_rounds=12)
"""Of graphs that are loaded several times in a run."""
SPREAD = 1.2
"""Sigma of the log-normal shares: some sites then have twenty times as many neurons as others."""
EMPTY_SHARE = 0.2
"""Share of the sites that have no neurons, as global pruning leaves them at such a budget."""


@dataclass(frozen=True)
class Row:
    """One comparison, of medians taken in one interleaved run.

    Attributes:
        measured: what was measured.
        peer: what it is compared with.
        measured_ms: median.
        peer_ms: median of the peer.
        ratio: of the two, with its interval.
        rounds: samples of each.
        note: anything else worth a word.
    """

    measured: str
    peer: str
    measured_ms: float
    peer_ms: float
    ratio: Ratio
    rounds: int
    note: str = ""


def compared(measured: str, peer: str, samples: Mapping[str, Samples], note: str = "") -> Row:
    """Compares two of the runnables of one interleaved run."""
    latency_ns, peer_ns = samples[measured].latency_ns, samples[peer].latency_ns
    return Row(
        measured=measured,
        peer=peer,
        measured_ms=summarise(latency_ns).p50_ms,
        peer_ms=summarise(peer_ns).p50_ms,
        ratio=ratio(samples[measured], samples[peer]),
        rounds=len(latency_ns),
        note=note,
    )


def sampled(
    graphs: Mapping[str, Path], load: Callable[[Path], Runnable], options: argparse.Namespace
) -> dict[str, Samples]:
    """Times all graphs in turns, loading them anew before each share of the rounds."""
    rounds = -(-options.rounds // options.loads)
    clock = time.process_time_ns if options.cpu_time else time.perf_counter_ns
    shares = []
    for turn in range(options.loads):
        runnables = {name: load(path) for name, path in graphs.items()}
        shares.append(measure(runnables, rounds=rounds, seed=options.seed + turn, warm_up=WARM_UP, clock=clock))
    return {name: joined([share[name] for share in shares]) for name in graphs}


def joined(shares: Sequence[Samples]) -> Samples:
    """The samples of several loads as if they were of one."""
    return Samples(
        latency_ns=tuple(each for share in shares for each in share.latency_ns),
        warm_up_ns=tuple(each for share in shares for each in share.warm_up_ns),
        settled=all(share.settled for share in shares),
    )


def parser(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help="samples of each (default %(default)s)")
    made.add_argument("--seed", type=int, default=0, help="of weights, inputs and order (default %(default)s)")
    made.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return made


def show(rows: Sequence[Row], environment: Environment, *, as_json: bool) -> None:
    """Prints the comparisons as a Markdown table or as JSON."""
    if as_json:
        print(json.dumps({"environment": asdict(environment), "rows": [asdict(row) for row in rows]}, indent=1))
        return
    packages = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    threads = environment.threads or "as many as the runtime chooses"
    print(
        f"{environment.cpu}, {environment.cores} cores, threads: {threads}, load at start: {environment.load_average}"
    )
    print(f"Python {environment.python}, {packages}\n")
    print(table(rows))


def table(rows: Sequence[Row]) -> str:
    """A Markdown table of ratios."""
    lines = [
        "| measured | peer | ms | peer ms | ratio (95 % interval) | rounds | |",
        "|---|---|---:|---:|---|---:|---|",
    ]
    for row in rows:
        ratio = f"{row.ratio.value:.3f} ({row.ratio.low:.3f} to {row.ratio.high:.3f})"
        times = f"{row.measured_ms:.2f} | {row.peer_ms:.2f}"
        lines.append(f"| {row.measured} | {row.peer} | {times} | {ratio} | {row.rounds} | {row.note} |")
    return "\n".join(lines)


def random_task(
    name: str,
    backbone: BackboneIdentity,
    sites: Sequence[Site],
    preprocessing: Preprocessing,
    *,
    budget_bytes: int = BUDGET_BYTES,
    classes: int = len(CLASSES),
    seed: int = 0,
) -> Task:
    """A task of random fp16 weights that fills a budget, its neurons spread as unevenly as global pruning spreads them.

    A fifth of the sites is empty. The others have log-normal shares of the neurons, at most M each.
    """
    random = np.random.default_rng(seed)
    header = replace(random_header(name, backbone, preprocessing), classes=CLASSES[:classes])
    neurons = uneven_neurons(header, sites, budget_bytes, seed)

    def weights(*shape: int) -> Floats:
        return random.standard_normal(shape, np.float32) / np.float32(20)

    adapters = {
        site.name: AdapterWeights(weights(site.width, count), weights(count, site.width))
        for site in sites
        if (count := neurons.get(site.name, 0))
    }
    head = HeadWeights(weights(classes, backbone.features), weights(classes))
    return Task(header, encode_weights(adapters, head, Store.FP16))


def random_header(name: str, backbone: BackboneIdentity, preprocessing: Preprocessing) -> TaskHeader:
    """The header of a task of ten classes that was never trained."""
    return TaskHeader(
        name=name,
        backbone=backbone,
        classes=CLASSES,
        preprocessing=preprocessing,
        activation="gelu",
        store=Store.FP16,
        accuracy={},
        training_sha256="0" * 64,
        versions={},
    )


def uneven_neurons(header: TaskHeader, sites: Sequence[Site], budget_bytes: int, seed: int) -> dict[str, int]:
    """The most neurons, in proportions that the seed decides, whose task file fits the budget."""
    shares = np.random.default_rng(seed).lognormal(0, SPREAD, len(sites))
    shares[np.argsort(shares)[: int(len(sites) * EMPTY_SHARE)]] = 0
    widths = {site.name: site.width for site in sites}

    def spread(total: float) -> dict[str, int]:
        counts = {site.name: min(site.width, int(total * share)) for site, share in zip(sites, shares, strict=True)}
        return {name: count for name, count in counts.items() if count}

    low, high = 0.0, 1000.0 * sum(widths.values())
    if size_bytes(header, {}) > budget_bytes:
        raise BudgetInfeasibleError(f"Not even the head fits {budget_bytes} bytes.")
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if size_bytes(header, bottleneck_shapes(widths, spread(middle))) <= budget_bytes
            else (low, middle)
        )
    return spread(low)


def neurons_note(task: Task, sites: Sequence[Site], file_bytes: int) -> str:
    """How a task's neurons are spread, in a few words."""
    counts = task.neurons.values()
    return (
        f"{file_bytes:,} bytes, {sum(counts)} neurons ({min(counts)} to {max(counts)}) at {len(counts)} of "
        f"{len(sites)} sites"
    )
