"""A build's progress: one number that only grows, whatever the phases do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.export.engines.building.progress import TOTAL, BuildProgress

TREES = st.recursive(
    st.tuples(st.integers(0, 4), st.just([])),
    lambda inner: st.tuples(st.integers(0, 4), st.lists(inner, max_size=3)),
    max_leaves=12,
)


def never() -> bool:
    return False


def walk(progress, tree, name="0", parent=None):
    """Goes through phases inside phases, each child during the next step of its parent."""
    steps, children = tree
    progress.phase_start(name, parent, steps)
    for step in range(max(steps, len(children))):
        if step < len(children):
            walk(progress, children[step], f"{name}.{step}", name)
        assert progress.step_complete(name, step)
    progress.phase_finish(name)


@given(st.lists(TREES, max_size=3))
def test_it_only_grows_and_ends_at_the_total(trees):
    heard = []
    progress = BuildProgress("Building", heard.append, never)
    progress.begin()
    for index, tree in enumerate(trees):
        walk(progress, tree, f"root {index}")
    assert all(event.done < TOTAL for event in heard), "done before the plan is there"
    progress.end()
    done = [event.done for event in heard]
    assert done == sorted(set(done))
    assert (done[0], done[-1]) == (0, TOTAL)
    assert {(event.stage, event.total) for event in heard} == {("Building", TOTAL)}


def test_a_phase_inside_another_is_part_of_its_step():
    heard = []
    progress = BuildProgress("Building", heard.append, never)
    progress.phase_start("outer", None, 2)
    progress.phase_start("inner", "outer", 4)
    for step in range(3):
        progress.step_complete("inner", step)
    assert [(event.done, event.figures) for event in heard] == [
        (12, {"phase": "inner"}),
        (25, {"phase": "inner"}),
        (37, {"phase": "inner"}),
    ]


def test_a_request_to_stop_is_passed_on_and_remembered():
    asked = iter([False, True, False])
    progress = BuildProgress("Building", lambda event: None, lambda: next(asked))
    progress.phase_start("outer", None, 5)
    assert [progress.step_complete("outer", step) for step in range(3)] == [True, False, False]
    assert progress.stopped


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_what_a_listener_raises_stops_the_build_and_is_kept(error):
    def broken(event):
        raise error

    progress = BuildProgress("Building", broken, never)
    progress.phase_start("outer", None, 5)
    assert not progress.step_complete("outer", 0)
    assert isinstance(progress.raised, error)


def test_steps_of_unknown_phases_are_no_trouble():
    progress = BuildProgress("Building", lambda event: None, never)
    progress.phase_start("inner", "never started", 3)
    assert progress.step_complete("nobody", 7)
    progress.phase_finish("nobody")
