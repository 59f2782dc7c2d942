"""Looks at everything, and says what it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mimi_edge.events import Listener, silent
from mimi_edge.profiles.doctor.abilities import abilities
from mimi_edge.profiles.doctor.ask import LIMIT_S, Answers, ask_all
from mimi_edge.profiles.doctor.findings import Ability, Finding, State, sorted_findings
from mimi_edge.profiles.doctor.judges.libraries import judge_libraries
from mimi_edge.profiles.doctor.judges.machine import judge_machine
from mimi_edge.profiles.doctor.judges.runtimes import judge_runtimes
from mimi_edge.profiles.doctor.judges.seen import Seen
from mimi_edge.profiles.doctor.steps import all_groups


@dataclass(frozen=True)
class Diagnosis:
    """All that is known.

    Attributes:
        findings: the worst first.
        abilities: of the commands.
        answers: of the probes.
    """

    findings: tuple[Finding, ...]
    abilities: tuple[Ability, ...]
    answers: Answers

    @property
    def healthy(self) -> bool:
        """Whether nothing is broken; an optional part that is not installed is no fault."""
        return all(finding.state is not State.BROKEN for finding in self.findings)


def diagnose(commands: Sequence[str] = (), *, limit_s: float = LIMIT_S, listener: Listener = silent) -> Diagnosis:
    """Looks at this machine; whatever is broken is a finding, and no error.

    Args:
        commands: names of all commands of the command line.
        limit_s: for each of the looks.
        listener: hears how far it is.
    """
    return diagnosis_of(ask_all(all_groups(), limit_s=limit_s, listener=listener), commands)


def diagnosis_of(answers: Answers, commands: Sequence[str] = ()) -> Diagnosis:
    """What answers come to."""
    seen = Seen(answers)
    findings = sorted_findings([*judge_libraries(seen), *judge_runtimes(seen), *judge_machine(seen)])
    return Diagnosis(findings, abilities(seen, commands), answers)


def document_of(diagnosis: Diagnosis) -> dict[str, Any]:
    """As JSON can hold it."""
    return {
        "healthy": diagnosis.healthy,
        "findings": [asdict(finding) for finding in diagnosis.findings],
        "commands": [asdict(ability) for ability in diagnosis.abilities],
        "facts": {
            name: dict(answer.facts) | ({} if answer.failure is None else {"failure": asdict(answer.failure)})
            for name, answer in diagnosis.answers.items()
        },
    }
