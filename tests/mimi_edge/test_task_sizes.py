"""How large a task file will be: said from sums, and held against files that were really built."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from method_samples import cost_models, header_of, mimi_costs, pruned_task

from mimi_edge.budgets import CostModel
from mimi_edge.sites import Site
from mimi_edge.tasks import sizes
from mimi_edge.tasks.files import task_bytes
from mimi_edge.tasks.stores import Store
from mimi_edge.tasks.task import bottleneck_shapes, tensor_dtype, tensor_shapes


@settings(max_examples=150)
@given(model=cost_models(), data=st.data())
def test_the_size_is_that_of_the_file(model: CostModel, data: st.DataObject) -> None:
    # Over orders of magnitude: every digit of a shape or an offset is a byte of the file.
    counts = st.one_of(st.integers(0, 12), st.sampled_from([99, 100, 999, 1000, 3001]))
    for _ in range(3):
        neurons = {site.name: data.draw(counts) for site in model.network.sites}
        assert model.cost(neurons).size_bytes == len(task_bytes(pruned_task(model, neurons)))


@pytest.mark.parametrize("store", Store)
def test_many_classes_and_sites_are_exact_too(store: Store) -> None:
    header = header_of((f'class "{number}" \u65e5\n' for number in range(3000)), store=store, features=20)
    sites = [Site(f"layers.{index}.blocks.{index}.mlp", 3 + index, 7) for index in range(40)]
    model = mimi_costs(header, sites, 1)
    neurons = {site.name: index % 7 for index, site in enumerate(sites)}
    assert model.cost(neurons).size_bytes == len(task_bytes(pruned_task(model, neurons)))


@example(site='a "quoted" \\ site\n')
@example(site="\x00\x1f\x7f\u2028 \u65e5\u672c")
@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20))
def test_names_of_sites_are_counted_as_they_are_written(site: str) -> None:
    model = mimi_costs(header_of(store=Store.INT8), [Site(site, 5, 1)], 1)
    assert model.cost({site: 3}).size_bytes == len(task_bytes(pruned_task(model, {site: 3})))


@pytest.mark.parametrize("store", Store)
def test_shapes_and_types_are_those_of_the_tensors(store: Store) -> None:
    model = mimi_costs(header_of(store=store), [Site("a", 5, 1), Site("b", 2, 1)], 1)
    tensors = pruned_task(model, {"a": 3, "b": 0}).tensors
    shapes = tensor_shapes(model.header, bottleneck_shapes({"a": 5}, {"a": 3}))
    assert shapes == {name: values.shape for name, values in tensors.items()}
    assert {name: tensor_dtype(name, shape, store) for name, shape in shapes.items()} == {
        name: values.dtype for name, values in tensors.items()
    }


def test_one_file_is_built_for_any_number_of_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    known = sizes.task_bytes
    monkeypatch.setattr(
        sizes, "task_bytes", lambda task: (built.append(sum(map(np.size, task.tensors.values()))), known(task))[1]
    )
    model = mimi_costs(header_of(), [Site("a", 1000, 1)], 1)
    for count in range(20):
        model.cost({"a": 1000 * count})
    assert built == [3 * 5 + 3]  # of the head alone
