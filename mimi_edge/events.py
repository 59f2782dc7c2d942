"""How long work says where it stands, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Note:
    """One sentence worth reading."""

    text: str


@dataclass(frozen=True)
class Advance:
    """How far one stage of the work has come.

    Attributes:
        stage: name of the stage; a new name starts a new stage.
        done: steps done, 0 when the stage begins.
        total: steps in all, None when nobody knows.
        figures: what to show beside it, already formatted: `{"loss": "0.31"}`.
    """

    stage: str
    done: int
    total: int | None
    figures: Mapping[str, str] = field(default_factory=dict)


Event = Note | Advance
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """Listens to nothing."""
