"""The fleet ledger: what N tasks take on disk and in memory under each strategy, and from which N on one is smaller.

Every strategy's cost is a part that is there once and a part that comes with each task. Both are of real files where
they exist; a cost that was worked out from the sizes of other files says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mimi_edge.documents import DocumentKind, typed_document
from mimi_edge.errors import ConfigError

FULL_MODELS = "full-models"
FULL_GRAPHS = "full-graphs"
LINEAR_PROBES = "linear-probes"
ONNX_PACKAGE = "onnx-package"
ORT_ADAPTERS = "ort-adapters"

FILES = "files"
COMPUTED = "computed"
MEASURED = "measured"
ESTIMATE = "estimate"
BASES = (FILES, COMPUTED, MEASURED, ESTIMATE)
DEFAULT_COUNTS = (1, 10, 100)
QUANTITIES = ("storage", "memory")
LEDGER_KIND = DocumentKind("a ledger", 16_000_000, mend="Make it again.", version_key=None, open=True)
MEMORY_WORDS = {MEASURED: "measured", ESTIMATE: "estimated"}
MEMORY_BASES = {MEASURED: "one task's process, further ones added", ESTIMATE: "weights alone, no activations"}


@dataclass(frozen=True)
class Cost:
    """Bytes that grow with the number of tasks.

    Attributes:
        shared_bytes: there once, however many tasks there are.
        tasks_bytes: of `tasks` tasks together.
        tasks: that `tasks_bytes` is of; at this number `total_bytes` is exactly what was found.
        basis: `files` as they lie, `computed` from the sizes of other files, `measured` in a running process, or an
            `estimate`.

    Raises:
        ConfigError: a number is negative, there is no task, or the basis is unknown.
    """

    shared_bytes: int
    tasks_bytes: int
    tasks: int
    basis: str

    def __post_init__(self) -> None:
        if min(self.shared_bytes, self.tasks_bytes) < 0 or self.tasks < 1 or self.basis not in BASES:
            raise ConfigError(f"A cost needs bytes >= 0, at least one task and one of {', '.join(BASES)}; got {self}.")

    @property
    def bytes_per_task(self) -> float:
        """Of one task on average."""
        return self.tasks_bytes / self.tasks

    def total_bytes(self, tasks: int) -> int:
        """Of as many tasks, each as large as the average of those there are; broken bytes are rounded up."""
        return self.shared_bytes + -(-self.tasks_bytes * tasks // self.tasks)


@dataclass(frozen=True)
class Line:
    """One strategy.

    Attributes:
        strategy: its name, such as `onnx-package` or `shared.fp16`.
        title: in words.
        storage: what has to lie on the device for tasks to be answered.
        memory: what a runtime holds with all tasks ready to answer: measured where that was, else an estimate.
        note: what is counted.
        memory_estimate: of weights alone, whether or not that was measured; None in ledgers of earlier releases.
    """

    strategy: str
    title: str
    storage: Cost
    memory: Cost
    note: str
    memory_estimate: Cost | None = None

    def memory_on(self, basis: str) -> Cost | None:
        """Memory as it was measured, or as it is estimated; None where there is no such figure."""
        if self.memory.basis == basis:
            return self.memory
        return self.memory_estimate if basis == ESTIMATE else None


@dataclass(frozen=True)
class Panel:
    """What one chart of a ledger shows: costs that stand on the same basis, so that they can be held side by side.

    Attributes:
        name: of the panel, where no other has the same.
        title: what it shows.
        basis: in words.
        costs: with the index of their line in the ledger.
    """

    name: str
    title: str
    basis: str
    costs: tuple[tuple[int, Cost], ...]


@dataclass(frozen=True)
class BreakEven:
    """For which numbers of tasks one strategy is smaller than another.

    Attributes:
        strategy: the one.
        against: the other.
        from_tasks: the least number from which on it always is smaller; None where there is none.
        up_to_tasks: the largest number up to which it is smaller, where that ends; else None.
    """

    strategy: str
    against: str
    from_tasks: int | None
    up_to_tasks: int | None

    @property
    def in_words(self) -> str:
        """Such as `from 2 on`."""
        if self.from_tasks is not None:
            return "always" if self.from_tasks == 1 else f"from {self.from_tasks:,} on"
        return "never" if self.up_to_tasks is None else f"up to {self.up_to_tasks:,}"


@dataclass(frozen=True)
class Ledger:
    """Every strategy for one backbone and its tasks.

    Attributes:
        backbone: name of it.
        tasks: names of those whose sizes it stands on.
        files: bytes of the real folders by what they hold; the sum is all that is there.
        lines: the strategies; what one compares with comes first.
    """

    backbone: str
    tasks: tuple[str, ...]
    files: Mapping[str, int]
    lines: tuple[Line, ...]

    @property
    def folder_bytes(self) -> int:
        """Everything in the real folders."""
        return sum(self.files.values())

    def line(self, strategy: str) -> Line:
        """One strategy by its name.

        Raises:
            KeyError: there is none of that name.
        """
        for found in self.lines:
            if found.strategy == strategy:
                return found
        raise KeyError(strategy)


def panels(ledger: Ledger) -> list[Panel]:
    """Storage, then memory by what it stands on: a measured process holds far more than an estimate of its weights."""
    storage = tuple((index, line.storage) for index, line in enumerate(ledger.lines))
    found = [Panel("storage", "Storage", "files, * computed from the sizes of other files", storage)]
    for basis, words in MEMORY_BASES.items():
        costs = ((index, line.memory_on(basis)) for index, line in enumerate(ledger.lines))
        if there := tuple((index, cost) for index, cost in costs if cost is not None):
            found.append(Panel(f"memory-{basis}", f"Memory, {MEMORY_WORDS[basis]}", words, there))
    return found


def break_even(strategy: str, cost: Cost, against: str, other: Cost) -> BreakEven:
    """For which numbers of tasks `cost` is below `other`.

    With costs s + t N and S + T N that is N > (s - S) / (T - t) where t < T, and N below it where t > T. Fractions are
    exact; ties are no win.
    """
    # Per task over a common denominator, so that whole numbers decide.
    per_task = cost.tasks_bytes * other.tasks
    other_per_task = other.tasks_bytes * cost.tasks
    scale = cost.tasks * other.tasks
    more_shared = (cost.shared_bytes - other.shared_bytes) * scale
    less_per_task = other_per_task - per_task
    if less_per_task > 0:
        return BreakEven(strategy, against, max(1, more_shared // less_per_task + 1), None)
    if less_per_task == 0:
        return BreakEven(strategy, against, 1 if more_shared < 0 else None, None)
    last = -(-more_shared // less_per_task) - 1
    return BreakEven(strategy, against, None, last if last >= 1 else None)


def break_evens(ledger: Ledger, quantity: str) -> Iterator[BreakEven]:
    """Of every strategy against every other; memory that was measured is not held against an estimate.

    Args:
        ledger: with the strategies.
        quantity: `storage` or `memory`.
    """
    for line in ledger.lines:
        for other in ledger.lines:
            cost, others = _cost(line, quantity), _cost(other, quantity)
            if line is not other and (cost.basis == MEASURED) == (others.basis == MEASURED):
                yield break_even(line.strategy, cost, other.strategy, others)


def checked_counts(counts: Sequence[int]) -> tuple[int, ...]:
    """Numbers of tasks, each once, in order.

    Raises:
        ConfigError: there is none, or one below 1.
    """
    if not counts or min(counts) < 1:
        raise ConfigError(f"Expected numbers of tasks of at least 1, such as 1,10,100; got {list(counts)}.")
    return tuple(sorted(set(counts)))


def ledger_document(ledger: Ledger, counts: Sequence[int] = DEFAULT_COUNTS) -> dict[str, Any]:
    """The ledger as JSON has it, with totals for some numbers of tasks."""
    return {
        "backbone": ledger.backbone,
        "tasks": list(ledger.tasks),
        "files": dict(ledger.files),
        "folder_bytes": ledger.folder_bytes,
        "strategies": [_line_document(line, counts) for line in ledger.lines],
        "break_even": {quantity: [asdict(found) for found in break_evens(ledger, quantity)] for quantity in QUANTITIES},
    }


def ledger_from_document(document: Mapping[str, Any]) -> Ledger:
    """The ledger that `ledger_document` made a document of; totals and break-evens are worked out again.

    Raises:
        ArtifactError: it is no such document.
    """
    entries = typed_document(document, "This ledger", LEDGER_KIND, _LedgerEntries)
    return Ledger(entries.backbone, entries.tasks, entries.files, entries.strategies)


@dataclass(frozen=True)
class _LedgerEntries:
    """What `ledger_document` writes and cannot work out."""

    backbone: str
    tasks: tuple[str, ...]
    files: Mapping[str, int]
    strategies: tuple[Line, ...]


def _cost(line: Line, quantity: str) -> Cost:
    return line.storage if quantity == "storage" else line.memory


def _line_document(line: Line, counts: Sequence[int]) -> dict[str, Any]:
    return asdict(line) | {
        f"{quantity}_bytes": {str(count): _cost(line, quantity).total_bytes(count) for count in counts}
        for quantity in QUANTITIES
    }
