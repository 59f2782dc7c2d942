"""What TensorRT says while it works, kept so that a failure can be explained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ERRORS = frozenset({"INTERNAL_ERROR", "ERROR"})
WARNINGS = frozenset({"WARNING"})


@dataclass(frozen=True)
class LogEntry:
    """One message.

    Attributes:
        severity: TensorRT's name for it: INTERNAL_ERROR, ERROR or WARNING.
        text: of the message.
    """

    severity: str
    text: str


@dataclass
class EngineLog:
    """Errors and warnings in the order they came; what is less important is not kept."""

    entries: list[LogEntry] = field(default_factory=list)

    @property
    def errors(self) -> tuple[str, ...]:
        """Texts of the errors."""
        return tuple(entry.text for entry in self.entries if entry.severity in ERRORS)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Texts of the warnings, each once."""
        return tuple(dict.fromkeys(entry.text for entry in self.entries if entry.severity in WARNINGS))


@dataclass
class LogRelay:
    """Hands each message to everybody who is listening.

    TensorRT remembers the first logger that it gets and sends messages there for as long as the process lives, so there
    is one logger a module and the listeners come and go.
    """

    listening: list[EngineLog] = field(default_factory=list)

    def __call__(self, severity: Any, text: str) -> None:
        """Takes one message; `severity` is TensorRT's own enum."""
        if severity.name in ERRORS | WARNINGS:
            for log in tuple(self.listening):
                log.entries.append(LogEntry(severity.name, text))
