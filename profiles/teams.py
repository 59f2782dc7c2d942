"""Several processes for each artefact, opened one after the other, as many as are of use and fit into the memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mimi_edge.events import Advance, Listener, Note
from mimi_edge.profiles.processes import Crew
from mimi_edge.profiles.room import Room, resident_bytes, room_here, running_bytes, taken_between, that_fit
from mimi_edge.profiles.runtimes.artefact import Artefact

OPENING = "opening"
DEFAULT_PROCESSES = 3
"""As few as tell how much processes of one artefact scatter, with four degrees of freedom for two of them."""
APART = "\0"
"""Between an artefact's name and a number; no name has it, so a further process has a name of its own in the crew."""

Start = Callable[[Artefact], Sequence[str]]
Look = Callable[[], Room]


@dataclass(frozen=True)
class Opened:
    """What stands ready.

    Attributes:
        teams: processes of each artefact by their names in the crew; the first has the artefact's. Of an artefact that
            could not be opened there is none.
        floors: what the first process of each held before it opened its artefact.
        processes: of each artefact.
        why_fewer: in words, where these are fewer than were wanted.
    """

    teams: dict[str, tuple[str, ...]]
    floors: dict[str, dict[str, Any]]
    processes: int
    why_fewer: str | None = None


def open_teams(
    crew: Crew,
    artefacts: Mapping[str, Artefact],
    *,
    wanted: int,
    batch: int,
    start: Start,
    listener: Listener,
    look: Look = room_here,
) -> Opened:
    """Starts processes for artefacts and opens them there.

    One of each comes first, so that it is known what they take. An artefact whose first process fails is left out; if a
    further one fails, no artefact gets it.

    Args:
        crew: gets them.
        artefacts: by name.
        wanted: processes of each artefact.
        batch: largest that they will be asked for.
        start: the command of a process.
        listener: hears how far it is.
        look: at the memory that is left.
    """
    before = look()
    answers = _wave(crew, {name: name for name in artefacts}, artefacts, start, listener)
    floors = {name: answer for name, answer in answers.items() if answer is not None}
    teams: dict[str, tuple[str, ...]] = {name: (name,) for name in floors}
    if not teams or wanted == 1:
        return Opened(teams, floors, 1)
    fit = _fitting(crew, [artefacts[name] for name in teams], wanted, batch, before, look)
    why = None if fit == wanted else "there is not enough memory for more"
    for number in range(2, fit + 1):
        further = {f"{name}{APART}{number}": name for name in teams}
        if None in _wave(crew, further, artefacts, start, listener).values():
            why = _given_up(crew, further)
            break
        teams = {name: (*team, f"{name}{APART}{number}") for name, team in teams.items()}
    processes = min(map(len, teams.values()))
    if why is not None:
        listener(Note(f"{processes} instead of {wanted} processes for each artefact: {why}."))
    return Opened(teams, floors, processes, why)


def _wave(
    crew: Crew, names: Mapping[str, str], artefacts: Mapping[str, Artefact], start: Start, listener: Listener
) -> dict[str, dict[str, Any] | None]:
    """One process more for each artefact; the answers by the process's name."""
    answers = {}
    for done, (name, artefact_name) in enumerate(names.items()):
        listener(Advance(OPENING, done, len(names)))
        artefact = artefacts[artefact_name]
        crew.add(name, start(artefact))
        answers[name] = crew.ask(name, OPENING, {"do": "open", "opening": artefact.opening.document()})
    listener(Advance(OPENING, len(names), len(names)))
    return answers


def _fitting(crew: Crew, artefacts: Sequence[Artefact], wanted: int, batch: int, before: Room, look: Look) -> int:
    left = look()
    running = sum(running_bytes(artefact.input_size, batch) for artefact in artefacts)
    return that_fit(wanted, taken_between(before, left, resident_bytes(crew.pids)), running, left)


def _given_up(crew: Crew, names: Mapping[str, str]) -> str:
    """Ends those of a wave that others did not follow, and says why not."""
    messages = [crew.failures.pop(name).message for name in names if name in crew.failures]
    for name in names:
        crew.dismiss(name)
    return f"one more could not be opened ({messages[0]})"
