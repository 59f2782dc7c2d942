"""What a look at this machine comes to: findings, and what each command can do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    """How bad a finding is, the worst first.

    `broken`: something is installed and does not work, or the core is not whole. `warning`: it works, and something
    about it should be known. `missing`: an optional part is not installed.
    """

    BROKEN = "broken"
    WARNING = "warning"
    MISSING = "missing"


class Can(str, Enum):
    """Whether a command can do its work here: all of it, some of it, or none."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"


@dataclass(frozen=True)
class Finding:
    """Something to know or to mend.

    Attributes:
        state: how bad it is.
        topic: what it is about, in a word or two.
        text: what was found.
        line: what to type; None where no line mends it.
    """

    state: State
    topic: str
    text: str
    line: str | None = None


@dataclass(frozen=True)
class Ability:
    """What a command can do here.

    Attributes:
        command: with the options that make the difference.
        can: whether it can.
        text: on what, or why not.
        line: what to type to be able to; None where nothing is missing, or no line brings it.
    """

    command: str
    can: Can
    text: str
    line: str | None = None


def sorted_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, else in the order they came; twice the same only once."""
    order = list(State)
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: order.index(finding.state)))


def listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *some, last = names
    return f"{', '.join(some)} and {last}" if some else last


def first_sentence(text: str) -> str:
    """Up to the first full stop that a blank or a new line follows."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line.partition(". ")[0].rstrip(".")
