from __future__ import annotations

import json
from dataclasses import replace

import pytest
from export_samples import random_task, tiny_backbone
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.shared.layout import (
    SharedLayout,
    Spare,
    layout_document,
    layout_of,
    misfits,
    read_layout,
)
from mimi_edge.tasks.task import Task

BACKBONE = tiny_backbone("vit")
SITES = [site.name for site in BACKBONE.sites]
WIDTH = BACKBONE.sites[0].width

tasks = st.builds(
    lambda neurons, classes: random_task(BACKBONE, neurons, classes=classes),
    st.dictionaries(st.sampled_from(SITES), st.integers(0, 5)),
    st.integers(2, 6),
)


@given(st.lists(tasks, min_size=1, max_size=4))
def test_a_layout_is_the_smallest_that_all_tasks_fit(given_tasks: list[Task]):
    layout = layout_of(given_tasks)
    assert [misfits(task, layout) for task in given_tasks] == [()] * len(given_tasks)
    assert layout.classes == max(len(task.header.classes) for task in given_tasks)
    assert set(layout.neurons) == {site for task in given_tasks for site in task.sites}
    for site, count in layout.neurons.items():
        assert count == max(task.neurons.get(site, 0) for task in given_tasks)
        assert layout.widths[site] == WIDTH


@given(st.lists(tasks, min_size=1, max_size=3), tasks)
def test_a_task_fits_exactly_where_the_padding_is_wide_enough(given_tasks: list[Task], new: Task):
    layout = layout_of(given_tasks)
    wide_enough = all(count <= layout.neurons.get(site, 0) for site, count in new.neurons.items())
    assert (misfits(new, layout) == ()) == (wide_enough and len(new.header.classes) <= layout.classes)
    assert (misfits(new, layout) == ()) == (layout_of([*given_tasks, new]) == layout)


@given(st.lists(tasks, min_size=1, max_size=3))
def test_a_layout_comes_back_from_json(given_tasks: list[Task]):
    layout = layout_of(given_tasks)
    assert read_layout(json.loads(json.dumps(layout_document(layout)))) == layout


def test_misfits_say_how_many_against_how_many():
    layout = layout_of([random_task(BACKBONE, {SITES[0]: 2}, classes=3)])
    new = random_task(BACKBONE, {SITES[0]: 4, SITES[3]: 1}, classes=5, activation="relu")
    new = replace(new, header=replace(new.header, preprocessing=replace(new.header.preprocessing, size=16)))
    assert misfits(new, layout) == (
        "activation: the task has relu, the graph gelu",
        "image size: the task takes 16 px, the graph 32 px",
        f"site {SITES[0]}: the task has 4 neurons, the graph has room for 2",
        f"site {SITES[3]}: the task has 1 neurons, the graph has room for 0",
        "classes: the task has 5, the graph has room for 3",
    )
    stranger = replace(new.header.backbone, name="stranger", sha256="f" * 64, features=9)
    sentences = misfits(replace(new, header=replace(new.header, backbone=stranger)), layout)
    assert any("stranger (ffffffffffff)" in each and "tiny vit" in each for each in sentences)
    assert any("takes 9, the graph gives 32" in each for each in sentences)


def test_spare_room_lets_a_wider_task_in():
    small = random_task(BACKBONE, {SITES[0]: 2}, classes=3)
    wider = random_task(BACKBONE, {SITES[0]: 4, SITES[3]: 2}, classes=5)
    assert misfits(wider, layout_of([small]))
    spare = Spare(neurons=2, classes=2, sites=BACKBONE.sites)
    layout = layout_of([small], spare=spare)
    assert misfits(wider, layout) == ()
    assert layout.neurons == {SITES[0]: 4, SITES[1]: 2, SITES[2]: 2, SITES[3]: 2}
    assert layout_of([small], spare=Spare(neurons=10 * WIDTH)).neurons == {SITES[0]: WIDTH}
    assert layout_of([small], spare=Spare(classes=1, sites=BACKBONE.sites)).neurons == {SITES[0]: 2}
    with pytest.raises(ConfigError, match="-1 neurons"):
        Spare(neurons=-1)


def test_tasks_that_disagree_are_named_with_what_each_has():
    first = random_task(BACKBONE, {SITES[0]: 2}, name="roses")
    second = random_task(tiny_backbone("vit", seed=3), {SITES[0]: 2}, name="tulips", activation="relu")
    second = replace(second, header=replace(second.header, preprocessing=replace(BACKBONE.preprocessing, size=16)))
    third = random_task(replace(BACKBONE, sites=(replace(BACKBONE.sites[0], width=8),)), {SITES[0]: 1}, name="narrow")
    with pytest.raises(ConfigError) as caught:
        layout_of([first, second, third])
    for part in (
        "activation: roses has gelu, tulips has relu",
        "roses has 32 px, tulips has 16 px",
        "backbone: roses has tiny vit (",
        f"width of {SITES[0]}: roses has 32, tulips has 32, narrow has 8",
    ):
        assert part in str(caught.value)


def test_no_task_is_no_layout():
    with pytest.raises(ConfigError, match="at least one task"):
        layout_of([])


def test_damaged_descriptions_are_refused():
    whole = layout_document(layout_of([random_task(BACKBONE, {SITES[0]: 2})]))
    assert isinstance(read_layout(whole), SharedLayout)
    for key in whole:
        for wrong in (None, [], "x", -1, {"a": 1}):
            if key == "backbone" or wrong != whole[key]:
                with pytest.raises(ArtifactError):
                    read_layout(whole | {key: wrong})
        with pytest.raises(ArtifactError):
            read_layout({name: value for name, value in whole.items() if name != key})
    with pytest.raises(ArtifactError, match="above 0"):
        read_layout(whole | {"neurons": {SITES[0]: 0}})
    with pytest.raises(ArtifactError, match="widths of"):
        read_layout(whole | {"widths": {SITES[1]: WIDTH}})
