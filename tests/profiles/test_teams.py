"""Several processes for each artefact: as many as fit, and fewer where one more cannot be opened."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mimi_edge.events import Note
from mimi_edge.images.image_size import ImageSize
from mimi_edge.profiles.processes import Crew
from mimi_edge.profiles.room import Room
from mimi_edge.profiles.teams import open_teams

FAKE = (sys.executable, "-S", str(Path(__file__).parent / "fake_worker.py"))
GIGABYTE = 10**9
PLENTY = Room(1000 * GIGABYTE)


def artefact():
    return SimpleNamespace(input_size=ImageSize(8, 8), opening=SimpleNamespace(document=dict))


ARTEFACTS = {name: artefact() for name in ("backbone", "digits")}


@pytest.fixture
def crew():
    with Crew() as made:
        yield made


def opened(crew, wanted=3, room=PLENTY, failing=(), heard=None):
    """Teams of stand-ins; `failing` are the numbers of the starts that cannot be opened."""
    starts = []

    def start(_artefact):
        starts.append(1)
        return (*FAKE, *(("open", "raise") if len(starts) in failing else ("none", "fine")))

    listener = (lambda _: None) if heard is None else heard.append
    return open_teams(crew, ARTEFACTS, wanted=wanted, batch=1, start=start, listener=listener, look=lambda: room)


def test_each_artefact_has_as_many_processes_and_the_first_has_its_name(crew):
    found = opened(crew)
    assert [len(team) for team in found.teams.values()] == [3, 3]
    assert [team[0] for team in found.teams.values()] == ["backbone", "digits"]
    assert sorted(crew.names) == sorted(name for team in found.teams.values() for name in team)
    assert len(set(crew.pids)) == 6
    assert (found.processes, found.why_fewer) == (3, None)
    assert set(found.floors) == {"backbone", "digits"}


def test_there_are_fewer_where_memory_is_short_and_it_says_so(crew):
    heard = []
    found = opened(crew, room=Room(1_000_000), heard=heard)
    assert found.processes == 1
    assert crew.names == ["backbone", "digits"]
    assert "memory" in found.why_fewer
    (note,) = (event.text for event in heard if isinstance(event, Note))
    assert note.startswith("1 instead of 3 processes")


@pytest.mark.parametrize(("failing", "processes"), [({3}, 1), ({4}, 1), ({5}, 2), ({6}, 2)])
def test_where_one_more_cannot_be_opened_no_artefact_gets_it(crew, failing, processes):
    found = opened(crew, failing=failing)
    assert [len(team) for team in found.teams.values()] == [processes] * 2
    assert sorted(crew.names) == sorted(name for team in found.teams.values() for name in team)
    assert crew.failures == {}
    assert "this one is refused" in found.why_fewer


def test_an_artefact_whose_first_process_fails_is_left_out_and_the_others_get_all(crew):
    found = opened(crew, failing={1})
    assert {name: len(team) for name, team in found.teams.items()} == {"digits": 3}
    assert crew.failures["backbone"].stage == "opening"
    assert found.why_fewer is None
