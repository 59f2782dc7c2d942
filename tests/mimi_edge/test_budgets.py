"""Exact budgets: the file that is written, against what was computed before it was."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from method_samples import cost_models, header_of, mimi_costs, pruned_task, scored

from mimi_edge.budgets import Budget, Cost, CostModel, budget_from_units, require_feasible
from mimi_edge.errors import BudgetInfeasibleError, ConfigError
from mimi_edge.methods.costs import flops_of
from mimi_edge.selection import Scope, Selection, Stages, ranking, select
from mimi_edge.sites import Neurons, Site, uniform_neurons
from mimi_edge.tasks.files import task_bytes, write_task

SITES = [Site("a", 4, 3), Site("b", 6, 2)]


def selected(data: st.DataObject, model: CostModel, budget: Budget) -> Selection:
    scores = data.draw(scored(model))
    stages = Stages({site: index % 2 for index, site in enumerate(scores)}, (1, 3))
    ranked = ranking(scores, data.draw(st.sampled_from(Scope)), stages)
    return select(ranked, scores, lambda neurons: model.cost(neurons).within(budget))


def everything(model: CostModel, neurons: int = 14) -> Neurons:
    return {site.name: neurons for site in model.network.sites}


def one_more(selection: Selection) -> Neurons:
    assert selection.next is not None
    site = selection.next.site
    return {**selection.neurons, site: selection.neurons[site] + 1}


@given(cost_models(), st.data())
def test_the_file_has_exactly_the_computed_size_and_no_room_for_the_next_neuron(
    model: CostModel, data: st.DataObject
) -> None:
    least, most = model.cost({}).size_bytes, model.cost(everything(model)).size_bytes
    budget = Budget(size_bytes=data.draw(st.integers(least, most + 10)))
    selection = selected(data, model, budget)
    accuracy = data.draw(st.floats(0, 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.safetensors"
        said = write_task(pruned_task(model, selection.neurons, accuracy), path)
        assert path.stat().st_size == said == model.cost(selection.neurons).size_bytes <= budget.size_bytes
        if selection.next is not None:
            write_task(pruned_task(model, one_more(selection), accuracy), path)
            assert path.stat().st_size > budget.size_bytes
            assert path.stat().st_size == model.with_one_more(selection.neurons, selection.next.site).size_bytes


@given(cost_models(), st.data())
def test_operations_are_never_over_and_the_next_neuron_would_have_been(model: CostModel, data: st.DataObject) -> None:
    least, most = model.cost({}).flops, model.cost(everything(model)).flops
    budget = Budget(flops=data.draw(st.integers(least, most + 10)))
    selection = selected(data, model, budget)
    assert by_hand_flops(model, selection.neurons) <= budget.flops
    if selection.next is not None:
        assert by_hand_flops(model, one_more(selection)) > budget.flops


@given(cost_models(), st.data())
def test_both_budgets_hold_together_and_one_of_them_stops_the_next_neuron(
    model: CostModel, data: st.DataObject
) -> None:
    least, most = model.cost({}), model.cost(everything(model))
    budget = Budget(
        data.draw(st.integers(least.size_bytes, most.size_bytes)), data.draw(st.integers(least.flops, most.flops))
    )
    selection = selected(data, model, budget)
    assert len(task_bytes(pruned_task(model, selection.neurons))) <= budget.size_bytes
    assert by_hand_flops(model, selection.neurons) <= budget.flops
    if selection.next is not None:
        larger = one_more(selection)
        over_size = len(task_bytes(pruned_task(model, larger))) > budget.size_bytes
        assert over_size or by_hand_flops(model, larger) > budget.flops


def by_hand_flops(model: CostModel, neurons: Neurons) -> int:
    head = 2 * len(model.header.classes) * model.header.backbone.features
    adapters = sum(2 * site.tokens * 2 * site.width * neurons.get(site.name, 0) for site in model.network.sites)
    return model.backbone_flops + head + adapters


@given(cost_models(), st.data())
def test_an_infeasible_budget_names_the_smallest_that_works(model: CostModel, data: st.DataObject) -> None:
    least = model.cost({})
    budget = Budget(
        data.draw(st.integers(1, least.size_bytes - 1) | st.none()), data.draw(st.integers(1, least.flops - 1))
    )
    assert_names_the_smallest(budget, least)


@given(st.integers(2, 10**11), st.integers(2, 10**14))
def test_the_smallest_is_named_exactly_enough_at_any_size(size_bytes: int, flops: int) -> None:
    assert_names_the_smallest(Budget(size_bytes - 1, flops - 1), Cost(size_bytes, flops))


def assert_names_the_smallest(budget: Budget, least: Cost) -> None:
    with pytest.raises(BudgetInfeasibleError) as refused:
        require_feasible(budget, least)
    message = str(refused.value)
    assert refused.value.exit_code == 3
    for option, limit, slack in (("mb", budget.size_bytes, 20), ("gflops", budget.flops, 2000)):
        named = re.search(rf"--budget-{option} ([0-9.e+-]+[0-9])", message)
        assert (named is None) == (limit is None)
        if named is not None:
            value = float(named[1])
            units = (value, None) if option == "mb" else (None, value)
            smallest = budget_from_units(*units)
            require_feasible(smallest, least)
            less = Budget(
                None if smallest.size_bytes is None else max(1, smallest.size_bytes - slack),
                None if smallest.flops is None else max(1, smallest.flops - slack),
            )
            if max(least.size_bytes if option == "mb" else least.flops, slack) > slack:
                with pytest.raises(BudgetInfeasibleError):
                    require_feasible(less, least)


def test_a_feasible_budget_passes() -> None:
    require_feasible(Budget(100, 50), Cost(100, 50))
    require_feasible(Budget(size_bytes=100), Cost(100, 10**12))
    require_feasible(Budget(flops=50), Cost(10**12, 50))


def test_units_are_decimal_and_rounded_down() -> None:
    assert budget_from_units(0.5, None) == Budget(size_bytes=500_000)
    assert budget_from_units(0.0000019, 1.5) == Budget(1, 1_500_000_000)
    # 0.29 x 1000^2 is a hair below 290,000 in binary.
    assert budget_from_units(0.29, 0.000123457) == Budget(290_000, 123_457)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_senseless_budgets_are_refused(value: float) -> None:
    for arguments in ((value, None), (None, value / 1000)):
        with pytest.raises(ConfigError):
            budget_from_units(*arguments)


def test_no_budget_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="--budget-mb"):
        budget_from_units(None, None)


def test_a_site_without_neurons_costs_nothing() -> None:
    model = mimi_costs(header_of(), SITES, 1000)
    assert model.cost({"a": 0, "b": 2}) == model.cost({"b": 2})


def test_the_first_neuron_of_a_site_costs_its_place_in_the_header() -> None:
    model = mimi_costs(header_of(), SITES, 1000)
    first = model.with_one_more({}, "a").size_bytes - model.cost({}).size_bytes
    second = model.with_one_more({"a": 1}, "a").size_bytes - model.cost({"a": 1}).size_bytes
    assert second == 2 * 4 * 4
    assert first > second + len("a.down") + len("a.up")


def test_counting_adapters() -> None:
    model = mimi_costs(header_of(), SITES, 1000)
    assert model.description.resized({"a": 3}).numbers == 2 * 4 * 3
    assert flops_of(model.description.resized({"a": 3, "b": 1}), model.network) == 3 * 4 * 3 * 4 + 4 * 2 * 6
    assert uniform_neurons(SITES, 2.5) == {"a": 1, "b": 2}
    assert uniform_neurons(SITES, 100) == {"a": 1, "b": 1}
