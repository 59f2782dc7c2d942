"""Variation of training images: what each kind does to a batch, and that seed and place alone decide it."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor

from mimi_edge.training.augmentation.augment import DONE_BY, augmented
from mimi_edge.training.augmentation.kinds import KINDS, ORIGINAL_CROP, Kind, augment_faults, augment_kinds
from mimi_edge.training.augmentation.mixing import Mixing, mixed
from mimi_edge.training.augmentation.randaugment import SIGNED, STRENGTHENED
from mimi_edge.training.batches import Place
from mimi_edge.training.rows import Rows

SIDE = 32
HERE = Place(1, 2, 3)
PLACES = (Place(0, 2, 3), Place(1, 0, 3), Place(1, 2, 0))
GREY = 128


def pixels(count: int = 40, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def grey(count: int = 40, value: int = GREY) -> Tensor:
    return torch.full((count, 3, SIDE, SIDE), value, dtype=torch.uint8)


@pytest.mark.parametrize("kinds", ["flip", "shift", "flip+shift", *DONE_BY, "+".join(DONE_BY)])
def test_augmentation_depends_on_the_place_and_the_seed_alone(kinds: str) -> None:
    images = pixels()
    before = images.clone()
    made = augmented(images, kinds, 7, HERE)
    torch.manual_seed(12345)
    assert torch.equal(made, augmented(images, kinds, 7, HERE))
    assert made.dtype == torch.uint8
    assert made.shape == images.shape
    assert torch.equal(images, before)
    for other in (augmented(images, kinds, 8, HERE), *(augmented(images, kinds, 7, place) for place in PLACES)):
        assert not torch.equal(made, other)


@pytest.mark.parametrize("rows", [Rows(tuple(range(11, 30)), 40), Rows((0, 7, 39), 40)])
@pytest.mark.parametrize("kinds", [*DONE_BY, "+".join(DONE_BY)])
def test_some_rows_vary_as_they_do_in_their_batch(kinds: str, rows: Rows) -> None:
    whole = augmented(pixels(), kinds, 7, HERE)
    assert torch.equal(augmented(rows.of_batch(pixels()), kinds, 7, HERE, rows), rows.of_batch(whole))


@pytest.mark.parametrize("mixing", [Mixing(mixup=0.8), Mixing(cutmix=1.0)])
@pytest.mark.parametrize("own", [Rows((0, 1, 2), 8), Rows((2, 3, 4), 8), Rows((7,), 8)])
def test_some_rows_are_mixed_as_they_are_in_their_batch(own: Rows, mixing: Mixing) -> None:
    images, targets = pixels(8), some_targets(8)
    seen = own.with_mirrored()
    made = mixed(seen.of_batch(images), seen.of_batch(targets), mixing, 0, HERE, own)
    assert all(map(torch.equal, made, map(own.of_batch, mixed(images, targets, mixing, 0, HERE))))


@pytest.mark.parametrize("kinds", DONE_BY)
@pytest.mark.parametrize("sides", [(16, 40), (40, 16)])
def test_images_that_are_no_squares_vary_along_both_sides(kinds: str, sides: tuple[int, int]) -> None:
    """What is varied reaches rows and columns alike."""
    images = torch.randint(0, 256, (400, 3, *sides), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    made = augmented(images, kinds, 7, HERE)
    assert made.shape == images.shape
    changed = (made != images).any(1).any(0)
    assert changed.any(0).float().mean() > 0.9  # of the columns; what is erased seldom reaches the last ones
    assert changed.any(1).float().mean() > 0.9


@pytest.mark.parametrize("sides", [(16, 40), (40, 16)])
def test_a_shift_of_a_wide_image_moves_by_an_eighth_of_its_shorter_side(sides: tuple[int, int]) -> None:
    rows, columns = (torch.arange(side, dtype=torch.uint8) for side in sides)
    for axis, ramp in ((0, rows[:, None]), (1, columns[None, :])):
        images = ramp.expand(40, 3, *sides)
        made = augmented(images, "shift", 0, HERE).int() - images.int()
        assert made.abs().max() == 2
        assert made.amax(3 if axis == 0 else 2).shape == (40, 3, sides[axis])


@pytest.mark.parametrize("sides", [(16, 40), (40, 16), (32, 32)])
def test_cutmix_takes_a_part_of_the_image_s_own_shape(sides: tuple[int, int]) -> None:
    black, white = (torch.full((1, 3, *sides), value, dtype=torch.uint8) for value in (0, 255))
    targets = torch.eye(2)
    for step in range(20):
        made, shares = mixed(torch.cat([black, white]), targets, Mixing(cutmix=1.0), 0, Place(0, 0, step))
        part = made[0, 0] > 0
        assert part.float().mean().item() == pytest.approx(shares[0, 1].item(), abs=1e-6)
        high, wide = part.any(1).sum().item(), part.any(0).sum().item()
        assert part.sum() == high * wide
        if 0 < high < sides[0] and 0 < wide < sides[1]:
            inside = part[1:-1, 1:-1].sum() == part.sum()
            assert not inside or abs(high / sides[0] - wide / sides[1]) < 0.1


def test_no_augmentation_changes_nothing() -> None:
    assert torch.equal(augmented(pixels(), "none", 7, HERE), pixels())


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    images = pixels(100, 8)
    made = augmented(images, "flip", 0, HERE)
    mirrored = [torch.equal(one, image.flip(-1)) for one, image in zip(made, images, strict=True)]
    kept = [torch.equal(one, image) for one, image in zip(made, images, strict=True)]
    assert all(one != other for one, other in zip(mirrored, kept, strict=True))
    assert 25 < sum(mirrored) < 75


@pytest.mark.parametrize("side", [4, 16, 32])
def test_a_shift_moves_by_at_most_an_eighth_and_repeats_the_edge(side: int) -> None:
    images, most = pixels(30, side), max(1, side // 8)
    moves = set()
    for one, image in zip(augmented(images, "shift", 0, HERE), images, strict=True):
        found = [
            (down, right)
            for down in range(-most, most + 1)
            for right in range(-most, most + 1)
            if torch.equal(one, moved(image, down, right))
        ]
        assert len(found) == 1
        moves.update(found)
    assert len(moves) > 4


def moved(image: Tensor, down: int, right: int) -> Tensor:
    side = image.shape[-1]
    rows = torch.tensor([min(max(row + down, 0), side - 1) for row in range(side)])
    columns = torch.tensor([min(max(column + right, 0), side - 1) for column in range(side)])
    return image[:, rows][:, :, columns]


@pytest.mark.parametrize(
    ("kinds", "sha256"),
    [
        ("flip", "8bb8e3b5d02fcaf4"),
        ("shift", "51c3b4dc6433112a"),
        ("flip+shift", "382070dddc78091e"),
    ],
)
def test_flips_and_shifts_are_those_of_the_first_release(kinds: str, sha256: str) -> None:
    made = augmented(pixels(), kinds, 7, HERE)
    assert hashlib.sha256(made.contiguous().numpy().tobytes()).hexdigest()[:16] == sha256


def test_a_crop_is_a_part_of_its_image() -> None:
    ramp = torch.arange(SIDE, dtype=torch.uint8).expand(60, 3, SIDE, SIDE)
    made = augmented(ramp, "crop:0.3", 0, HERE)
    lowest, highest = made.amin((1, 2, 3)).int(), made.amax((1, 2, 3)).int()
    assert lowest.max() > 4
    assert highest.min() < SIDE - 4
    assert ((highest - lowest) > SIDE * 0.3).all()  # not even the narrowest part of such an area is narrower
    assert torch.equal(augmented(grey(), "crop", 0, HERE), grey())


def test_jitter_changes_colours_within_its_strength_and_leaves_the_places() -> None:
    made = augmented(grey(200), "jitter:0.4", 0, HERE).float()
    assert torch.equal(made, made[:, :1, :1, :1].expand_as(made))
    assert GREY * 0.6 - 1 <= made.min() < GREY * 0.7
    assert GREY * 1.3 < made.max() <= GREY * 1.4 + 1
    assert torch.equal(augmented(pixels(), "jitter:0", 0, HERE), pixels())


def test_erasing_takes_a_rectangle_of_its_share_of_the_images() -> None:
    images = grey(400)
    changed = (augmented(images, "erasing:0.25", 0, HERE) != images).any(1)
    lost = changed.flatten(1).sum(1)
    assert 60 < (lost > 0).sum() < 140
    assert lost.max() <= SIDE * SIDE / 3 * 1.15
    for one in changed[lost > 0][:20]:
        rows, columns = one.any(1), one.any(0)
        inside = one[rows][:, columns].float().mean()
        assert inside > 0.9  # noise may be grey by chance
    assert torch.equal(augmented(images, "erasing:0", 0, HERE), images)


def test_randaugment_does_other_things_to_other_images() -> None:
    images = pixels(1).expand(60, -1, -1, -1)
    made = augmented(images, "randaugment:9", 0, HERE)
    assert len({bytes(one.numpy().tobytes()) for one in made}) > 40


@pytest.mark.parametrize("name", [*SIGNED, "posterise"])
def test_an_operation_of_no_strength_changes_next_to_nothing(name: str) -> None:
    operation, images = {**SIGNED, **STRENGTHENED}[name], pixels(3)
    assert (operation(images, 0.0).int() - images.int()).abs().max() <= 1
    assert not torch.equal(operation(images, 1.0), images)


def test_randaugment_treats_an_image_as_it_would_alone() -> None:
    """Operations of a batch must not mix their images."""
    images = pixels(8)
    for name, operation in {**SIGNED, **STRENGTHENED}.items():
        alone = torch.cat([operation(one[None], 0.9) for one in images])
        assert torch.equal(operation(images, 0.9), alone), name


def some_targets(count: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.arange(count) % 5, 5).float()


def test_mixup_mixes_targets_as_it_mixes_pixels() -> None:
    images = torch.cat([grey(4, 0), grey(4, 200)])
    made, targets = mixed(images, some_targets(8), Mixing(mixup=0.8), 0, HERE)
    kept = targets[0, 0].item()
    assert 0 < kept < 1
    torch.testing.assert_close(made[0], torch.full_like(made[0], 200 * (1 - kept)))
    torch.testing.assert_close(made[7], torch.full_like(made[7], 200 * kept))
    torch.testing.assert_close(targets.sum(1), torch.ones(8))


def test_cutmix_weighs_targets_by_area() -> None:
    images = torch.cat([grey(4, 0), grey(4, 200)])
    seen = set()
    for step in range(20):
        made, targets = mixed(images, some_targets(8), Mixing(cutmix=1.0), 0, Place(0, 0, step))
        assert set(made.unique().tolist()) <= {0.0, 200.0}
        torch.testing.assert_close((made[0] == 0).float().mean(), targets[0, 0])
        seen.add(targets[0, 0].item())
    assert len(seen) > 10


def test_of_mixup_and_cutmix_a_batch_has_one() -> None:
    images = torch.cat([grey(4, 0), grey(4, 200)])
    made = [mixed(images, some_targets(8), Mixing(0.8, 1.0), 0, Place(0, 0, step))[0] for step in range(30)]
    cut = [set(one.unique().tolist()) <= {0.0, 200.0} for one in made]
    assert 5 < sum(cut) < 25


def test_mixing_depends_on_the_place_and_the_seed_alone() -> None:
    images, targets, both = pixels(8), some_targets(8), Mixing(0.8, 1.0)
    made = mixed(images, targets, both, 7, HERE)
    assert all(map(torch.equal, made, mixed(images, targets, both, 7, HERE)))
    assert not torch.equal(made[0], mixed(images, targets, both, 8, HERE)[0])
    assert not torch.equal(made[0], mixed(images, targets, both, 7, PLACES[0])[0])


def test_every_kind_has_its_function() -> None:
    assert set(DONE_BY) == set(KINDS) - {ORIGINAL_CROP}


def test_kinds_are_done_in_their_own_order() -> None:
    assert augment_kinds("erasing:0.5+flip+crop") == (Kind("crop", 0.08), Kind("flip"), Kind("erasing", 0.5))
    assert augment_kinds("none") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("twist", "twist"),
        ("", "must be"),
        ("flip+", "must be"),
        ("none+flip", "none"),
        ("flip+flip", "once"),
        ("crop+original-crop", "crops once"),
        ("original-crop:2", "0.01 to 1"),
        ("flip:2", "no number"),
        ("jitter:2", "from 0 to 1"),
        ("jitter:nan", "from 0 to 1"),
        ("randaugment:nine", "from 0 to 10"),
    ],
)
def test_what_cannot_be_done_is_said(text: str, said: str) -> None:
    assert any(said in fault for fault in augment_faults(text))
