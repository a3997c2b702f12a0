"""Changed colors against a loop over pixels, and against torchvision where nothing is cut off."""

import numpy as np
import pytest
import torch

from pipeline.training.colors import ColorFactors, change_colors, draw_color_factors

STILL = ColorFactors((1, 1, 1), 1, 1)


def random_crop(low=0, high=256, height=9, width=5):
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.integers(low, high, (3, height, width), dtype=np.uint8))


def gray(color):
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def naive(crop, factors):
    """Each step on each pixel, in float64."""
    pixels = [crop[:, y, x].astype(float) * factors.gains for y, x in np.ndindex(crop.shape[1:])]
    mean = sum(map(gray, pixels)) / len(pixels)
    made = []
    for color in pixels:
        color = mean + factors.contrast * (color - mean)
        color = gray(color) + factors.saturation * (color - gray(color))
        made.append([min(255.0, max(0.0, value)) for value in color])
    return np.array(made).T.reshape(crop.shape)


@pytest.mark.parametrize("seed", range(8))
def test_colors_equal_those_of_a_loop_over_pixels(seed):
    factors = draw_color_factors(np.random.default_rng(seed), 0.8)
    crop = random_crop()
    found = change_colors(crop, factors)
    assert found.dtype == torch.uint8
    expected = naive(crop.numpy(), factors)
    assert (expected > 0).any()
    np.testing.assert_allclose(found.numpy(), expected, atol=0.501)  # rounded once


@pytest.mark.parametrize(
    ("factors", "theirs"),
    [
        (ColorFactors((1.2, 1.2, 1.2), 1, 1), ("adjust_brightness", 1.2)),
        (ColorFactors((1, 1, 1), 0.7, 1), ("adjust_contrast", 0.7)),
        (ColorFactors((1, 1, 1), 1, 1.3), ("adjust_saturation", 1.3)),
    ],
)
def test_each_step_is_that_of_torchvision(factors, theirs):
    from torchvision.transforms.v2 import functional  # slow to load

    crop, (name, factor) = random_crop(80, 180), theirs
    adjust = getattr(functional, name)
    # It rounds down, and the gray of saturation and contrast to whole numbers before.
    np.testing.assert_allclose(
        change_colors(crop, factors).int(), adjust(crop, factor).int(), atol=1
    )


def test_factors_of_one_change_nothing():
    crop = random_crop()
    assert torch.equal(change_colors(crop, STILL), crop)
    assert draw_color_factors(np.random.default_rng(0), 0) == STILL


def test_values_beyond_black_and_white_are_cut_off():
    crop = torch.tensor([0, 100, 200], dtype=torch.uint8).expand(3, 1, 3)
    doubled = change_colors(crop, ColorFactors((2, 2, 2), 1, 1))
    assert doubled[0].tolist() == [[0, 200, 255]]
    harder = change_colors(crop, ColorFactors((1, 1, 1), 3, 1))
    assert harder[0].tolist() == [[0, 100, 255]]


def test_a_gray_image_without_contrast_is_its_mean():
    crop = torch.tensor([0, 100, 200], dtype=torch.uint8).expand(3, 1, 3)
    assert (change_colors(crop, ColorFactors((1, 1, 1), 0, 1)) == 100).all()


def test_factors_come_evenly_from_their_range():
    rng = np.random.default_rng(0)
    made = [draw_color_factors(rng, 0.4) for _ in range(4000)]
    for factors in ([each.contrast for each in made], [each.saturation for each in made]):
        counts = np.histogram(factors, 4, (0.6, 1.4))[0]
        np.testing.assert_allclose(counts / 4000, 0.25, atol=0.03)
    gains = np.array([each.gains for each in made])
    assert gains.min() >= 0.6 * 0.8
    assert gains.max() <= 1.4 * 1.2
    casts = gains[:, 0] / gains[:, 1]
    assert casts.min() >= 0.8 / 1.2
    assert casts.max() <= 1.2 / 0.8
    assert casts.std() > 0.1


@pytest.mark.parametrize(
    "crop", [torch.zeros(3, 4, 2), torch.zeros(1, 4, 2).byte(), torch.zeros(2, 3, 4, 2).byte()]
)
def test_other_crops_are_refused(crop):
    with pytest.raises(ValueError, match=r"crops uint8 \[3, H, W\]"):
        change_colors(crop, STILL)
