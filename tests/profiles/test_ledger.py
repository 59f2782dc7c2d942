"""Costs that grow with the number of tasks, and where one passes the other."""

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.profiles.ledger import (
    COMPUTED,
    ESTIMATE,
    FILES,
    MEASURED,
    Cost,
    Ledger,
    Line,
    break_even,
    break_evens,
    checked_counts,
    ledger_document,
    ledger_from_document,
)

COSTS = st.builds(Cost, st.integers(0, 10**6), st.integers(0, 10**4), st.integers(1, 9), st.just(FILES))


def exact(cost, tasks):
    return cost.shared_bytes + Fraction(cost.tasks_bytes * tasks, cost.tasks)


def a_ledger(**memory):
    lines = [
        Line("full-models", "full models", Cost(0, 200, 2, COMPUTED), Cost(0, 100, 1, ESTIMATE), "Copies."),
        Line("onnx-package", "ONNX package", Cost(150, 21, 2, FILES), Cost(0, 300, 1, MEASURED), "Shared."),
        Line("shared.fp16", "one engine", Cost(70, 21, 2, COMPUTED), Cost(70, 10, 1, ESTIMATE), "One."),
    ]
    return Ledger("tiny", ("a", "b"), {"weights": 100, "tasks": 71}, tuple(lines))


@given(COSTS)
def test_at_the_tasks_there_are_a_cost_is_what_was_found(cost):
    assert cost.total_bytes(cost.tasks) == cost.shared_bytes + cost.tasks_bytes


@given(COSTS, st.integers(1, 1000))
def test_a_total_is_never_too_small_and_less_than_a_byte_too_large(cost, tasks):
    assert 0 <= cost.total_bytes(tasks) - exact(cost, tasks) < 1


@given(COSTS, COSTS)
def test_a_break_even_is_where_one_becomes_smaller_and_stays_so(cost, other):
    found = break_even("one", cost, "other", other)
    for tasks in {1, 2, 3, 50, *((found.from_tasks or 1) + step for step in (-1, 0, 1, 500))} - {0}:
        smaller = exact(cost, tasks) < exact(other, tasks)
        if found.from_tasks is not None:
            assert smaller == (tasks >= found.from_tasks)
        else:
            assert smaller == (found.up_to_tasks is not None and tasks <= found.up_to_tasks)
    assert found.from_tasks is None or found.up_to_tasks is None


@given(COSTS, COSTS)
def test_the_last_number_up_to_which_one_is_smaller_is_the_last(cost, other):
    last = break_even("one", cost, "other", other).up_to_tasks
    if last is not None:
        assert exact(cost, last) < exact(other, last)
        assert exact(cost, last + 1) >= exact(other, last + 1)


@pytest.mark.parametrize(
    ("cost", "other", "words"),
    [
        (Cost(100, 1, 1, FILES), Cost(0, 60, 1, FILES), "from 2 on"),
        (Cost(60, 0, 1, FILES), Cost(0, 60, 1, FILES), "from 2 on"),
        (Cost(0, 60, 1, FILES), Cost(100, 1, 1, FILES), "up to 1"),
        (Cost(10, 1, 1, FILES), Cost(20, 1, 1, FILES), "always"),
        (Cost(20, 1, 1, FILES), Cost(20, 2, 2, FILES), "never"),
        (Cost(20, 2, 1, FILES), Cost(10, 1, 1, FILES), "never"),
    ],
)
def test_break_evens_in_words(cost, other, words):
    assert break_even("one", cost, "other", other).in_words == words


def test_measured_memory_is_not_held_against_estimates():
    pairs = {(found.strategy, found.against) for found in break_evens(a_ledger(), "memory")}
    assert pairs == {("full-models", "shared.fp16"), ("shared.fp16", "full-models")}
    assert len(list(break_evens(a_ledger(), "storage"))) == 6


def test_the_document_goes_through_json_and_comes_back():
    document = json.loads(json.dumps(ledger_document(a_ledger(), (1, 4))))
    assert ledger_from_document(document) == a_ledger()
    assert document["folder_bytes"] == 171
    assert document["strategies"][1]["storage_bytes"] == {"1": 161, "4": 192}
    assert {"strategy": "onnx-package", "against": "full-models", "from_tasks": 2, "up_to_tasks": None} in document[
        "break_even"
    ]["storage"]


@pytest.mark.parametrize(
    "damage", [{"strategies": None}, {"strategies": [{}]}, {"files": {"x": "many"}}, {"tasks": 3}, {"backbone": 1}][:4]
)
def test_a_damaged_document_is_refused(damage):
    with pytest.raises(ArtifactError, match="Make it again"):
        ledger_from_document(ledger_document(a_ledger()) | damage)


@pytest.mark.parametrize("values", [(-1, 0, 1, FILES), (0, -1, 1, FILES), (0, 0, 0, FILES), (0, 0, 1, "guessed")])
def test_a_cost_that_makes_no_sense_is_refused(values):
    with pytest.raises(ConfigError):
        Cost(*values)


def test_counts_are_each_once_and_in_order():
    assert checked_counts([100, 1, 10, 1]) == (1, 10, 100)
    for wrong in ([], [0], [3, -1]):
        with pytest.raises(ConfigError, match="at least 1"):
            checked_counts(wrong)
