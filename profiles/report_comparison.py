"""Two reports side by side: whether they were taken alike, how many times A's figure B's is, and limits on that.

Samples of two reports were not taken in turns, so each report's are drawn again by themselves. The intervals tell how
much a figure moves with the processes and the turns of its run. What changed between the runs without being a
condition, such as the temperature or what else was running, they cannot tell; `NOT_IN_TURNS` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimi_edge.documents import document_bytes, raw_document
from mimi_edge.errors import ConfigError
from mimi_edge.profiles.environment import Environment
from mimi_edge.profiles.latency import NANOSECONDS_PER_MS
from mimi_edge.profiles.memory import together_bytes
from mimi_edge.profiles.ratios import RESAMPLES, Values, ratios
from mimi_edge.profiles.report_documents import REPORT_KIND, report_from_document
from mimi_edge.profiles.reports import MeasuredArtefact, Measurement, Report
from mimi_edge.texts import LONGEST_FAULT, cut, fault_list

PERCENTILES = {"latency_p50": 50, "latency_p90": 90, "latency_p99": 99}
MEAN = "latency_mean"
JOULES, MEMORY, STORAGE, ACCURACY_DROP = "joules", "memory", "storage", "accuracy_drop"
METRICS = (*PERCENTILES, MEAN, JOULES, MEMORY, STORAGE, ACCURACY_DROP)

MACHINE = ("cpu", "cores", "threads", "system", "machine", "python", "providers")
GPU = (
    *("name", "driver", "compute_capability", "application_clocks_mhz", "most_clocks_mhz", "power_limit_watts"),
    *("persistence", "mig"),
)
BOARD = ("kind", "name", "power_mode", "power_source")
BOARD_FACTS = ("l4t", "clocks_fixed")
SUBJECT = "mimi-edge"
"""What is compared is no condition."""
NO_CONDITIONS = frozenset({"rounds", "warm_up", "turns", "processes_each", "why_fewer_processes"})
"""Of the method: they make intervals wider or narrower, and no figure larger or smaller."""
NOT_IN_TURNS = (
    "These two were never measured in turns: what else changed from one run to the other is in the ratios, and no "
    "interval can know of it. Where it matters, measure both in one mimi-edge profile."
)
ARTEFACT = ("kind", "backend", "precision", "strategy")


@dataclass(frozen=True)
class Difference:
    """A condition that is not the same in both reports."""

    condition: str
    a: str
    b: str


@dataclass(frozen=True)
class Change:
    """One figure of one artefact in both reports.

    Attributes:
        artefact: name of it.
        batch: images at a time; None for what does not depend on it.
        metric: one of `METRICS`.
        a: figure in the first report: ms, joules per image, bytes, or a share of 0..1.
        b: in the second.
        value: b / a, of latencies between the geometric means of their processes; for `accuracy_drop` a - b.
        low: lower end of the 95 % interval of `value`; None where there are no samples to draw from.
        high: upper end.
    """

    artefact: str
    batch: int | None
    metric: str
    a: float
    b: float
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def where(self) -> str:
        """Artefact and batch."""
        return self.artefact if self.batch is None else f"{self.artefact}, batch {self.batch}"


@dataclass(frozen=True)
class Comparison:
    """Two reports side by side.

    Attributes:
        differences: in the conditions; empty where they were taken alike.
        only_a: artefacts that only the first report has, or at batches that only it has.
        only_b: likewise for the second.
        failed: in words, artefacts whose measurement ended before its time in either report.
        warnings: that they were not taken in turns, and marks of either report: what makes them doubtful.
        changes: of every artefact and figure that both have.
    """

    differences: tuple[Difference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    failed: tuple[str, ...]
    warnings: tuple[str, ...]
    changes: tuple[Change, ...]


def read_report(path: Path) -> Report:
    """A report from its JSON file.

    Raises:
        ArtifactError: it cannot be read or is no report.
    """
    document = raw_document(document_bytes(path, REPORT_KIND), path, REPORT_KIND)
    return report_from_document(document, path)


def compare(a: Report, b: Report, *, force: bool = False, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """What changed from report `a` to report `b`.

    Args:
        a: what `b` is held against.
        b: the newer, or the other.
        force: go on although conditions differ.
        resamples: how many times samples are drawn again for the intervals.
        seed: of the draws.

    Raises:
        ConfigError: the conditions differ, each named, or the reports have no artefact in common.
    """
    differences = tuple(condition_differences(a, b))
    if differences and not force:
        listed = fault_list(f"{found.condition}: {found.a} | {found.b}" for found in differences)
        raise ConfigError(
            f"These reports were not taken alike, so their ratios say nothing about what changed (A | B):\n{listed}\n"
            "Measure again under the same conditions, or compare all the same with --force."
        )
    pairs = list(_pairs(a, b))
    if not pairs:
        raise ConfigError(
            f"These reports have no artefact in common: A has {_names(a)}, B has {_names(b)}. Measure the same ones."
        )
    random = np.random.default_rng(seed)
    changes = [change for pair in pairs for change in _changes(*pair, a.environment, resamples, random)]
    return Comparison(
        differences=differences,
        only_a=tuple(_missing(a, b)),
        only_b=tuple(_missing(b, a)),
        failed=(*_failures(a, "A"), *_failures(b, "B")),
        warnings=(
            NOT_IN_TURNS,
            *(f"A: {mark}" for mark in a.environment.marks),
            *(f"B: {mark}" for mark in b.environment.marks),
        ),
        changes=tuple(changes),
    )


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON has it."""
    return asdict(comparison)


def changes_by_place(changes: Sequence[Change]) -> dict[str, dict[str, Change]]:
    """By artefact and batch, then by metric."""
    found: dict[str, dict[str, Change]] = {}
    for change in changes:
        found.setdefault(change.where, {})[change.metric] = change
    return found


def memory_bytes(artefact: MeasuredArtefact, unified: bool) -> int | None:
    """What an artefact took above the runtime's floor, host and device together; where these are one, the larger."""
    if (memory := artefact.memory) is None:
        return None
    return together_bytes(memory.host_bytes, memory.device_bytes or 0, unified=unified)


def condition_differences(a: Report, b: Report) -> Iterator[Difference]:
    """Everything that was not alike when two reports were taken; what is compared is no condition."""
    first, second = _conditions(a), _conditions(b)
    for name in dict.fromkeys((*first, *second)):
        if first.get(name) != second.get(name):
            yield Difference(name, _in_words(first.get(name)), _in_words(second.get(name)))
    for one, other in _pairs(a, b):
        yield from _artefact_differences(one, other)


def _conditions(report: Report) -> dict[str, Any]:
    """Everything that has to be the same, by its name."""
    environment: Environment = report.environment
    found: dict[str, Any] = {name: getattr(environment, name) for name in MACHINE}
    found |= {f"package {name}": version for name, version in environment.packages.items() if name != SUBJECT}
    gpu, board = environment.gpu or {}, environment.board or {}
    found |= {f"gpu {name}": gpu.get(name) for name in GPU}
    found |= {f"board {name}": board.get(name) for name in BOARD}
    facts = board.get("facts")
    found |= {f"board {name}": facts.get(name) if isinstance(facts, Mapping) else None for name in BOARD_FACTS}
    return found | {f"method {name}": value for name, value in report.method.items() if name not in NO_CONDITIONS}


def _artefact_differences(one: MeasuredArtefact, other: MeasuredArtefact) -> Iterator[Difference]:
    for name in ARTEFACT:
        if getattr(one, name) != getattr(other, name):
            yield Difference(f"{name} of {one.name}", str(getattr(one, name)), str(getattr(other, name)))
    if one.failure is None and other.failure is None:
        batches, others = ([found.batch for found in it.measurements] for it in (one, other))
        if set(batches) != set(others):
            yield Difference(f"batches of {one.name}", _in_words(batches), _in_words(others))
    if one.accuracy is not None and other.accuracy is not None:
        images, others_images = (f"{it.images} of {it.split}" for it in (one.accuracy, other.accuracy))
        if images != others_images:
            yield Difference(f"images of {one.name}", images, others_images)


def _in_words(value: object) -> str:
    if isinstance(value, (list, tuple)):
        text = ", ".join(map(str, value)) or "none"
    elif isinstance(value, Mapping):
        text = ", ".join(f"{key} {inner}" for key, inner in value.items()) or "none"
    else:
        text = "not known" if value is None else str(value)
    return cut(text, LONGEST_FAULT)


def _pairs(a: Report, b: Report) -> Iterator[tuple[MeasuredArtefact, MeasuredArtefact]]:
    others = {artefact.name: artefact for artefact in b.artefacts}
    for artefact in a.artefacts:
        if artefact.name in others:
            yield artefact, others[artefact.name]


def _names(report: Report) -> str:
    return ", ".join(artefact.name for artefact in report.artefacts)


def _missing(a: Report, b: Report) -> Iterator[str]:
    """What of one report the other does not have."""
    others = {artefact.name: artefact for artefact in b.artefacts}
    for artefact in a.artefacts:
        other = others.get(artefact.name)
        if other is None:
            yield artefact.name
        else:
            lost = [found.batch for found in artefact.measurements if other.at(found.batch) is None]
            yield from (f"{artefact.name}, batch {batch}" for batch in lost)


def _failures(report: Report, side: str) -> Iterator[str]:
    for artefact in report.failed:
        if artefact.failure is not None:
            yield f"{side}: {artefact.name} failed at {artefact.failure.stage}: {artefact.failure.message}"


def _changes(
    a: MeasuredArtefact, b: MeasuredArtefact, environment: Environment, resamples: int, random: np.random.Generator
) -> Iterator[Change]:
    for found in a.measurements:
        if (other := b.at(found.batch)) is not None:
            yield from _latency_changes(a.name, found, other, resamples, random)
            if found.energy is not None and other.energy is not None:
                joules = (found.energy.joules_per_image, other.energy.joules_per_image)
                yield from _ratio(a.name, found.batch, JOULES, *joules)
    unified = bool((environment.board or {}).get("unified_memory"))
    memory = memory_bytes(a, unified), memory_bytes(b, unified)
    if memory[0] is not None and memory[1] is not None:
        yield from _ratio(a.name, None, MEMORY, memory[0], memory[1])
    yield from _ratio(a.name, None, STORAGE, a.size_bytes, b.size_bytes)
    if a.accuracy is not None and b.accuracy is not None:
        shares = a.accuracy.accuracy, b.accuracy.accuracy
        yield Change(a.name, None, ACCURACY_DROP, *shares, shares[0] - shares[1])


def _ratio(name: str, batch: int | None, metric: str, a: float, b: float) -> Iterator[Change]:
    """A ratio without an interval; none where a figure is not above zero."""
    if a > 0 and b > 0:
        yield Change(name, batch, metric, a, b, b / a)


def _latency_changes(
    name: str, a: Measurement, b: Measurement, resamples: int, random: np.random.Generator
) -> Iterator[Change]:
    found = ratios(b.samples, a.samples, _statistics, together=False, random=random, resamples=resamples)
    first, second = (_statistics(np.asarray(it.samples.latency_ns, np.float64)) / NANOSECONDS_PER_MS for it in (a, b))
    for index, metric in enumerate((*PERCENTILES, MEAN)):
        ratio = found[index]
        yield Change(
            name, a.batch, metric, float(first[index]), float(second[index]), ratio.value, ratio.low, ratio.high
        )


def _statistics(samples: Values) -> Values:
    """[..., samples] -> [percentiles and mean, ...]."""
    percentiles = np.percentile(samples, list(PERCENTILES.values()), axis=-1)
    return np.concatenate([percentiles, samples.mean(axis=-1)[None]])
