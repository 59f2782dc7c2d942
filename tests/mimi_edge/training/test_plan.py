"""What `plan` counts is what a training would do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from training_samples import small_config

from mimi_edge.errors import ConfigError
from mimi_edge.events import Event, Note
from mimi_edge.images import free_room
from mimi_edge.images.decode import decode_dataset
from mimi_edge.images.splits import Dataset
from mimi_edge.training.plan import plan_training


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in memory nor on the disk."""
    monkeypatch.setattr(free_room, "free_memory_bytes", lambda: 0)
    monkeypatch.setattr(free_room.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))


def test_images_for_validation_count_where_they_are_trained_on(pictures: Path) -> None:
    for train_on_val, splits in ((False, ("train",)), (True, ("train", "val"))):
        plan = plan_training(small_config(pictures, train_on_val=train_on_val))
        images = sum(len(plan.prepared.dataset.splits[name]) for name in splits)
        epochs = sum(training.epochs for training in plan.trainings)
        assert plan.seconds - plan.seconds_before == pytest.approx(images * epochs / plan.images_per_s)


def test_images_are_decoded_before_the_first_step_but_those_that_a_file_holds(pictures: Path) -> None:
    config = small_config(pictures, images="mapped")
    plan = plan_training(config)
    splits, preprocessing = plan.prepared.to_decode.splits, plan.prepared.backbone.preprocessing
    assert plan.decoded_before == sum(map(len, splits.values())) > 0
    assert plan.seconds_before == plan.decoded_before / plan.decoded_per_s
    decode_dataset(Dataset("some", (), {"train": splits["train"]}), preprocessing, images="mapped")
    assert plan_training(config).decoded_before == sum(len(splits[name]) for name in splits if name != "train")


@pytest.mark.usefixtures("no_room")
def test_decoding_counts_where_there_is_no_room_for_images(pictures: Path) -> None:
    heard: list[Event] = []
    plan = plan_training(small_config(pictures), listener=heard.append)
    assert plan.decodes_in_epochs
    assert plan.decoded_before == sum(map(len, plan.prepared.to_decode.splits.values()))
    images = len(plan.prepared.dataset.splits["train"]) * sum(training.epochs for training in plan.trainings)
    each = (plan.seconds - plan.seconds_before) / images
    assert each == pytest.approx(1 / plan.images_per_s + 1 / plan.decoded_per_s)
    assert any("There is no room for" in event.text for event in heard if isinstance(event, Note))


@pytest.mark.usefixtures("no_room")
def test_what_train_has_no_room_for_is_refused(pictures: Path) -> None:
    with pytest.raises(ConfigError, match="--images files"):
        plan_training(small_config(pictures, images="memory"))


@pytest.mark.parametrize("too_much", [0, 10**9])
def test_a_batch_of_all_images_is_said_and_timed_as_it_is(pictures: Path, too_much: int) -> None:
    images = len(plan_training(small_config(pictures)).prepared.dataset.splits["train"])
    heard: list[Event] = []
    plan_training(small_config(pictures, batch_size=images + too_much), listener=heard.append)
    (said,) = (event.text for event in heard if isinstance(event, Note) and "one step" in event.text)
    assert said.startswith(f"A batch of {images + too_much:,} holds all {images:,} training images")
    plan_training(small_config(pictures, batch_size=images - 1), listener=heard.append)
    assert sum("one step" in event.text for event in heard if isinstance(event, Note)) == 1
