"""Augmented crops against a loop over pixels; what may and what must not change them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.training.augmentation import AugmentationSettings, augment, draw_variation
from pipeline.training.colors import change_colors

MUCH = AugmentationSettings(pad=3, erase=0.8)
COLORFUL = AugmentationSettings(pad=3, erase=0.8, color_jitter=0.3)


def random_crops(count=6, height=9, width=5, kind=torch.uint8):
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, height, width))).to(kind)


def naive(crop, variation, fill):
    """Every pixel of the new crop looked up in the old one."""
    _, height, width = crop.shape
    made = np.empty_like(crop)
    for y in range(height):
        for x in range(width):
            from_y, from_x = y - variation.down, x - variation.right
            if variation.mirrored:
                from_x = width - 1 - from_x
            inside = 0 <= from_y < height and 0 <= from_x < width
            if variation.hidden is not None:
                top, left, bottom, right = variation.hidden
                inside = inside and not (top <= y < bottom and left <= x < right)
            made[:, y, x] = crop[:, from_y, from_x] if inside else fill
    return made


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_crops_equal_those_of_a_loop_over_pixels(kind):
    crops, fill = random_crops(40, kind=kind), (124.4, 116.0, 103.6)
    made = augment(crops, np.arange(40), MUCH, seed=4, epoch=2, fill=fill)
    assert made.dtype == kind
    color = np.array(fill, np.float32) if kind == torch.float32 else np.array([124, 116, 104])
    for row, crop in enumerate(crops.numpy()):
        variation = draw_variation(9, 5, MUCH, seed=4, epoch=2, row=row)
        np.testing.assert_array_equal(made[row], naive(crop, variation, color))


def test_colors_change_before_all_else_and_leave_it_the_same():
    crops, fill = random_crops(40), (124.4, 116.0, 103.6)
    made = augment(crops, np.arange(40), COLORFUL, seed=4, epoch=2, fill=fill)
    changed = []
    for row, crop in enumerate(crops):
        plain = draw_variation(9, 5, MUCH, seed=4, epoch=2, row=row)
        variation = draw_variation(9, 5, COLORFUL, seed=4, epoch=2, row=row)
        assert replace(variation, colors=None) == plain
        changed.append(change_colors(crop, variation.colors))
    expected = augment(torch.stack(changed), np.arange(40), MUCH, seed=4, epoch=2, fill=fill)
    assert torch.equal(made, expected)
    assert not torch.equal(made, augment(crops, np.arange(40), MUCH, seed=4, epoch=2, fill=fill))


def test_colors_are_those_of_whole_numbers():
    with pytest.raises(ValueError, match="uint8"):
        augment(random_crops(kind=torch.float32), np.arange(6), COLORFUL, seed=0, epoch=0)


def test_shifts_may_be_larger_than_the_crop():
    crops = random_crops(50, 4, 2)
    far = AugmentationSettings(pad=9, erase=0)
    made = augment(crops, np.arange(50), far, seed=0, epoch=0, fill=(1, 2, 3))
    for row, crop in enumerate(crops.numpy()):
        variation = draw_variation(4, 2, far, seed=0, epoch=0, row=row)
        np.testing.assert_array_equal(made[row], naive(crop, variation, [1, 2, 3]))


def test_a_crop_does_not_depend_on_its_batch():
    crops, rows, turns = random_crops(6), np.array([5, 9, 5, 0, 2**40, 1]), np.arange(6) % 2
    whole = augment(crops, rows, COLORFUL, seed=1, epoch=3, turns=turns)
    order = np.array([3, 0, 5, 1, 4, 2])
    parts = [
        augment(crops[part], rows[part], COLORFUL, seed=1, epoch=3, turns=turns[part])
        for part in (order[:1], order[1:4], order[4:])
    ]
    assert torch.equal(torch.cat(parts), whole[order])


def test_seed_epoch_row_and_turn_each_make_another_variation():
    base = {"seed": 1, "epoch": 2, "row": 3, "turn": 0}
    settings = AugmentationSettings(pad=500, erase=1, color_jitter=0.2)
    made = {draw_variation(256, 128, settings, **base)}
    made |= {draw_variation(256, 128, settings, **base | {name: 9}) for name in base}
    assert len(made) == 5
    assert draw_variation(256, 128, settings, **base) in made


def test_the_given_crops_stay_as_they_are():
    crops = random_crops()
    before = crops.clone()
    augment(crops, np.arange(6), AugmentationSettings(erase=1), seed=0, epoch=0)
    assert torch.equal(crops, before)
    still = augment(crops, np.arange(6), AugmentationSettings(0, 0, 0), seed=0, epoch=0)
    assert torch.equal(still, crops)
    assert still.data_ptr() != crops.data_ptr()


def test_variations_come_as_often_as_they_should():
    settings = AugmentationSettings(flip=0.3, pad=2, erase=0.6, erase_area=(0.1, 0.3))
    made = [draw_variation(200, 100, settings, seed=0, epoch=0, row=row) for row in range(2000)]
    assert np.mean([each.mirrored for each in made]) == pytest.approx(0.3, abs=0.03)
    for shifts in ([each.down for each in made], [each.right for each in made]):
        np.testing.assert_allclose(np.bincount(np.add(shifts, 2)) / 2000, 0.2, atol=0.03)
    hidden = np.array([each.hidden for each in made if each.hidden is not None])
    assert len(hidden) / 2000 == pytest.approx(0.6, abs=0.03)
    high, wide = (hidden[:, 2:] - hidden[:, :2]).T
    assert (hidden[:, :2] >= 0).all()
    assert (hidden[:, 2:] <= [200, 100]).all()
    areas = high * wide / 20000
    assert areas.min() > 0.09
    assert areas.max() < 0.31
    assert np.quantile(areas, 0.5) == pytest.approx(0.2, abs=0.01)
    aspects = np.log(high / wide)
    assert abs(aspects).max() < -math.log(0.3) + 0.05
    assert hidden[:, 0].min() == hidden[:, 1].min() == 0


def test_what_does_not_fit_is_not_hidden():
    wide = AugmentationSettings(erase=1, erase_area=(1, 1), erase_aspect=1)
    assert draw_variation(200, 100, wide, seed=0, epoch=0, row=0).hidden is None
    assert draw_variation(100, 100, wide, seed=0, epoch=0, row=0).hidden == (0, 0, 100, 100)


def test_an_empty_batch():
    made = augment(torch.empty(0, 3, 4, 2), np.empty(0, np.int64), seed=0, epoch=0)
    assert made.shape == (0, 3, 4, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": 1.5}, "`flip` must lie from 0 to 1"),
        ({"erase": -1}, "`erase` must lie from 0 to 1"),
        ({"color_jitter": 1.1}, "`color_jitter` must lie from 0 to 1"),
        ({"pad": -1}, "`pad` must be 0 or more"),
        ({"erase_area": (0, 0.5)}, "`erase_area` must be two shares"),
        ({"erase_area": (0.5, 0.4)}, "`erase_area` must be two shares"),
        ({"erase_aspect": 0}, "`erase_aspect` must lie from above 0 to 1"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(InputError, match=message):
        AugmentationSettings(**settings)


def test_crops_that_do_not_fit():
    crops, rows = random_crops(2), np.arange(2)
    for given in ((crops[0], rows), (crops[:, :1], rows), (crops, rows[:1])):
        with pytest.raises(ValueError, match=r"crops must be \[B, 3, H, W\]"):
            augment(*given, seed=0, epoch=0)
    with pytest.raises(ValueError, match=r"crops must be \[B, 3, H, W\]"):
        augment(crops, rows, seed=0, epoch=0, turns=rows[:1])
    with pytest.raises(ValueError, match=r"beyond the range of torch\.uint8"):
        augment(crops, rows, seed=0, epoch=0, fill=(0, 0, 256))
    with pytest.raises(ValueError, match="negative"):
        draw_variation(4, 4, AugmentationSettings(), seed=0, epoch=0, row=-1)
