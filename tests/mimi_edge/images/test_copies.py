"""Images that are the same are found, counted once each, and named in few words."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.images.copies import SeenImage, find_copies


def seen(split: str, contents: str, label: str = "cat") -> list[SeenImage]:
    """One image for each letter, which stands for what it shows."""
    return [SeenImage(f"{split}/{number}", label, letter.encode()) for number, letter in enumerate(contents)]


def said(**contents: str) -> str:
    return "\n".join(find_copies({split: seen(split, letters) for split, letters in contents.items()}).sentences())


def test_images_that_are_there_once_are_not_spoken_of() -> None:
    assert said(train="abcd", val="ef", test="gh") == ""


def test_across_splits() -> None:
    told = said(train="abcd", val="ex", test="cxh")
    assert "1 of 3 test images are train images too: test/0 = train/2." in told
    assert "1 of 3 test images are val images too: test/1 = val/1." in told
    assert "remove one of each two" in told


def test_within_a_split() -> None:
    assert "2 of 5 train images are copies of others in train: train/1 = train/0, train/4 = train/0." in said(
        train="aabca", val="x", test="y"
    )


def test_many_are_counted_and_few_are_named() -> None:
    letters = "".join(map(chr, range(200, 260)))
    told = said(train=letters, val="", test=letters)
    assert "60 of 60 test images are train images too" in told
    assert told.count(" = ") == 5
    assert "and 55 more" in told


def test_the_same_image_in_two_classes() -> None:
    splits = {"train": [*seen("a", "x", "cat"), *seen("b", "x", "dog")]}
    assert "1 of these copies are in different classes: b/0 = a/0." in "\n".join(find_copies(splits).sentences())


@given(st.fixed_dictionaries({split: st.text("abcdef", max_size=12) for split in ("train", "val", "test")}))
def test_each_image_is_counted_once_or_is_the_first_of_its_kind(contents: Mapping[str, str]) -> None:
    copies = find_copies({split: seen(split, letters) for split, letters in contents.items()})
    counted = sum(map(len, copies.across.values())) + sum(map(len, copies.within.values()))
    everything = "".join(contents.values())
    assert counted == len(everything) - len(set(everything))
    assert not copies.contradicting
