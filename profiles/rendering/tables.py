"""What a report says, as tables: the same ones in Markdown, on the page and on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mimi_edge.profiles.devices.roofline import compare
from mimi_edge.profiles.latency import summarise
from mimi_edge.profiles.ledger import (
    DEFAULT_COUNTS,
    FULL_GRAPHS,
    FULL_MODELS,
    LINEAR_PROBES,
    QUANTITIES,
    Ledger,
    break_evens,
)
from mimi_edge.profiles.rendering.readable import figure, interval, megabytes, milliseconds, percent
from mimi_edge.profiles.rendering.table import Table
from mimi_edge.profiles.report_documents import environment_document
from mimi_edge.profiles.reports import MeasuredArtefact, Measurement, Report

BACKBONE = "backbone"
BARE = "bare backbone"
ENGINE_PER_TASK = "per-task."
MOST_CLASSES = 50


def called(artefact: MeasuredArtefact) -> str:
    """Its name; what a package calls its backbone says little beside its tasks."""
    return BARE if artefact.kind == artefact.name == BACKBONE else artefact.name


def report_tables(report: Report) -> list[Table]:
    """Those of a report that have rows, in the order in which they are read; without the ledger and the environment."""
    tables = [
        failures_table(report),
        artefacts_table(report),
        latency_table(report),
        classes_table(report),
        estimates_table(report),
        energy_table(report),
        preprocessing_table(report),
        neurons_table(report),
        files_table(report),
    ]
    return [table for table in tables if table.rows]


def failures_table(report: Report) -> Table:
    """What could not be measured, and why."""
    rows = []
    for artefact in report.failed:
        failure = artefact.failure
        assert failure is not None  # noqa: S101  (that is what failed ones are)
        code = "" if failure.exit_code is None else str(failure.exit_code)
        rows.append((called(artefact), failure.stage, failure.message, code))
    return Table("Failures", ("artefact", "stage", "what it said", "exit code"), tuple(rows))


def artefacts_table(report: Report) -> Table:
    """What was measured, with sizes, accuracy and memory."""
    what = ("artefact", "kind", "backend", "type", "MB", "GFLOPs", "neurons")
    columns = (*what, "accuracy", "of images", "in the task file", "host MB", "GPU MB")
    rows = tuple(_artefact_row(artefact) for artefact in report.artefacts)
    note = (
        "MB of all files that it needs to run. Accuracy is of this artefact, measured; beside it that of the test "
        "split in the task file. Host and GPU: memory that it added to its process above the runtime's floor, at most."
    )
    return Table("Artefacts", columns, rows, note)


def _artefact_row(artefact: MeasuredArtefact) -> tuple[str, ...]:
    stored, measured, memory = artefact.stored_accuracy.get("test"), artefact.accuracy, artefact.memory
    return (
        called(artefact),
        artefact.kind if artefact.strategy is None else f"{artefact.kind}, {artefact.strategy}",
        artefact.backend,
        artefact.precision,
        megabytes(artefact.size_bytes if artefact.files else None),
        figure(artefact.gflops),
        "" if artefact.neurons is None else f"{sum(artefact.neurons.values()):,}",
        percent(None if measured is None else measured.accuracy),
        "" if measured is None else f"{measured.images:,} ({measured.split})",
        "" if stored is None else percent(stored.accuracy),
        "" if memory is None else megabytes(memory.host_bytes),
        "" if memory is None else megabytes(memory.device_bytes),
    )


def classes_table(report: Report) -> Table:
    """How often each class is found, the worst first, with the mean of an artefact's classes."""
    rows = []
    for artefact in report.artefacts:
        if (accuracy := artefact.accuracy) is not None and accuracy.recalls:
            rows.append((called(artefact), "mean of the classes", percent(accuracy.balanced_accuracy)))
            worst = sorted(accuracy.recalls.items(), key=lambda pair: pair[1])
            rows += [(called(artefact), name, percent(recall)) for name, recall in worst[:MOST_CLASSES]]
    note = (
        "Where classes are far apart in size, top-1 accuracy tells of the large ones; the mean of the classes counts "
        f"each alike. Of many classes the {MOST_CLASSES} that are found least; all are in the JSON report."
    )
    return Table("Recall of each class", ("artefact", "class", "recall"), tuple(rows), note)


def measurements(report: Report) -> Iterator[tuple[MeasuredArtefact, Measurement]]:
    """Every artefact at every batch, by batch."""
    for batch in report.batches:
        for artefact in report.artefacts:
            found = artefact.at(batch)
            if found is not None:
                yield artefact, found


def latency_table(report: Report) -> Table:
    """Percentiles, and the ratio to the reference."""
    columns = ("artefact", "batch", "p50 ms", "p90 ms", "p99 ms", "mean ms", "max ms", "jitter ms", "images/s", "n")
    names = {artefact.name: called(artefact) for artefact in report.artefacts}
    rows = []
    for artefact, found in measurements(report):
        summary, to = found.summary, found.ratio
        times = (summary.p50_ms, summary.p90_ms, summary.p99_ms, summary.mean_ms, summary.max_ms, summary.jitter_ms)
        measured = (called(artefact), str(found.batch), *map(milliseconds, times), figure(found.images_per_second))
        compared = ("", "", "", "")
        if to is not None:
            ratio, ends = f"{to.ratio.value:.3f}", interval(to.ratio.low, to.ratio.high)
            compared = (names.get(to.to, to.to), ratio, ends, to.verdict)
        rows.append((*measured, _count(found), *compared))
    note = (
        "From images in host memory to outputs in host memory; n is samples, of so many processes if of several; every "
        "sample is in the JSON report."
    )
    if any(found.ratio is not None for _, found in measurements(report)):
        note += (
            " Ratios are of p50, with the interval over processes; a difference is seen if 1 is outside, and no answer "
            "is given where the interval is too wide for one."
        )
    return Table("Latency", (*columns, "ratio to", "ratio", "95 % interval", "difference seen"), tuple(rows), note)


def _count(found: Measurement) -> str:
    """Samples, of how many processes, and whether the warm-up was long enough."""
    several = f" of {found.samples.processes}" if found.samples.processes > 1 else ""
    return f"{len(found.samples.latency_ns):,}{several}" + ("" if found.samples.settled else ", not settled")


def estimates_table(report: Report) -> Table:
    """What data sheets promise beside what was measured."""
    rows = tuple(
        (
            called(artefact),
            str(found.batch),
            found.estimate.title,
            milliseconds(found.estimate.ms),
            found.estimate.bound,
            milliseconds(found.summary.p50_ms),
            f"{compare(found.estimate, found.summary.p50_ms).relative:+.0%}" if found.summary.p50_ms else "",
        )
        for artefact, found in measurements(report)
        if found.estimate is not None
    )
    columns = ("artefact", "batch", "device", "estimate ms", "bound by", "measured p50 ms", "estimate's error")
    return Table("Estimates", columns, rows, "An estimate is a lower bound from a data sheet, not a measurement.")


def energy_table(report: Report) -> Table:
    """Joules above idle."""
    rows = tuple(
        (
            called(artefact),
            str(found.batch),
            figure(found.energy.joules_per_image),
            figure(found.energy.mean_watts),
            figure(found.energy.idle_watts),
            f"{found.energy.images:,}",
            f"{found.energy.method}: {found.energy.meter}",
        )
        for artefact, found in measurements(report)
        if found.energy is not None
    )
    columns = ("artefact", "batch", "J per image", "mean W", "idle W", "images", "read from")
    return Table("Energy", columns, rows, "Joules per image are above idle: idle power is subtracted.")


def preprocessing_table(report: Report) -> Table:
    """Milliseconds an image, by step."""
    rows = []
    for artefact in report.artefacts:
        if (made := artefact.preprocessing) is not None:
            steps = (made.read_ns, made.fit_ns, made.normalise_ns, made.total_ns)
            medians = (milliseconds(summarise(step).p50_ms) for step in steps)
            rows.append((called(artefact), *medians, f"{len(made.total_ns):,}", made.source))
    columns = ("artefact", "read ms", "fit ms", "normalise ms", "together ms", "images", "source")
    return Table("Preprocessing", columns, tuple(rows), "Medians for an image, on one thread; not part of the latency.")


def neurons_table(report: Report) -> Table:
    """Neurons at each site, an artefact a column."""
    shown = [artefact for artefact in report.artefacts if artefact.neurons]
    sites = list(dict.fromkeys(site for artefact in shown for site in artefact.neurons or {}))
    rows = [(site, *(str((artefact.neurons or {}).get(site, "")) for artefact in shown)) for site in sites]
    if rows:
        rows.append(("all sites", *(f"{sum((artefact.neurons or {}).values()):,}" for artefact in shown)))
    return Table("Neurons per site", ("site", *map(called, shown)), tuple(rows))


def files_table(report: Report) -> Table:
    """Every file with the artefacts that need it."""
    users: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for artefact in report.artefacts:
        for path, size in artefact.files.items():
            sizes[path] = size
            users.setdefault(path, []).append(called(artefact))
    rows = tuple((path, f"{sizes[path]:,}", ", ".join(users[path])) for path in sizes)
    return Table("Files", ("file", "bytes", "needed by"), rows, "As they lie; a file that several need is there once.")


def ledger_tables(ledger: Ledger, counts: Sequence[int] = DEFAULT_COUNTS) -> list[Table]:
    """Storage, memory, what the real folders hold, and from which number of tasks on which strategy is smaller."""
    return [
        *(_costs_table(ledger, quantity, counts) for quantity in QUANTITIES),
        *(_break_even_table(ledger, quantity) for quantity in QUANTITIES),
        Table("What is counted", ("strategy", "of it"), tuple((line.title, line.note) for line in ledger.lines)),
        _folders_table(ledger),
    ]


def _costs_table(ledger: Ledger, quantity: str, counts: Sequence[int]) -> Table:
    rows = []
    for line in ledger.lines:
        cost = line.storage if quantity == "storage" else line.memory
        totals = (megabytes(cost.total_bytes(count)) for count in counts)
        rows.append((line.title, cost.basis, megabytes(cost.shared_bytes), megabytes(cost.bytes_per_task), *totals))
    columns = ("strategy", "basis", "shared MB", "a task MB", *(f"N = {count:,}" for count in counts))
    if quantity == "storage":
        title = f"Storage in MB for N tasks on {ledger.backbone}"
        note = (
            "What has to lie on the device to answer. Basis files: sizes as they lie, exact for the tasks there are; "
            "computed: from the sizes of other files. Other N take the average task."
        )
    else:
        title = f"Memory in MB with N tasks ready on {ledger.backbone}"
        note = (
            "With all N tasks ready at once. Basis measured: one task's process above the runtime's floor, further "
            "tasks added; estimate: weights alone, no activations."
        )
    return Table(title, columns, tuple(rows), note)


def _break_even_table(ledger: Ledger, quantity: str) -> Table:
    titles = {line.strategy: line.title for line in ledger.lines}
    against = [FULL_MODELS, FULL_GRAPHS, LINEAR_PROBES, *(name for name in titles if name.startswith(ENGINE_PER_TASK))]
    words = {(found.strategy, found.against): found.in_words for found in break_evens(ledger, quantity)}
    rows = []
    for name, title in titles.items():
        others: dict[str, list[str]] = {}
        for other in against:
            if (name, other) in words:
                others.setdefault(words[name, other], []).append(titles[other])
        if name != FULL_MODELS:
            rows.append((title, ". ".join(f"{when}: {'; '.join(found)}" for when, found in others.items())))
    columns = ("strategy", "smaller than, for which numbers of tasks")
    note = "From so many tasks on, or up to so many."
    if quantity == "memory":
        note += " What was measured is not held against estimates."
    return Table(f"Smaller in {quantity}", columns, tuple(rows), note)


def _folders_table(ledger: Ledger) -> Table:
    rows = [(what, f"{size:,}") for what, size in ledger.files.items()]
    note = f"Of the tasks {', '.join(ledger.tasks)}. The sum is what du --apparent-size finds in the files."
    return Table("On disk now", ("what", "bytes"), (*rows, ("together", f"{ledger.folder_bytes:,}")), note)


def environment_table(report: Report) -> Table:
    """Machine and software."""
    document = environment_document(report.environment)
    document.pop("marks")
    facts = {"made": report.made, "seed": report.seed, **document, "method": report.method}
    rows = tuple((key, value) for name, value in facts.items() for key, value in _flat(name.replace("_", " "), value))
    return Table("Environment", ("what", "value"), rows)


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """One row for a value, several for what holds several."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name} {str(key).replace('_', ' ')}", inner)
    elif isinstance(value, (list, tuple)):
        yield name, ", ".join(map(str, value)) or "none"
    else:
        yield name, "not known" if value is None else str(value)
