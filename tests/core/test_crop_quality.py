"""Quality of crops, against a naive loop and by what must hold of any measure of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from pipeline.core.crop_quality import quality


def naive(pixels):
    height, width, _ = pixels.shape
    luma = [
        [round(float(np.float32(pixels[y, x]) @ np.float32([0.299, 0.587, 0.114])))
         for x in range(width)]
        for y in range(height)
    ]  # fmt: skip
    found = [
        luma[y - 1][x] + luma[y + 1][x] + luma[y][x - 1] + luma[y][x + 1] - 4 * luma[y][x]
        for y in range(1, height - 1)
        for x in range(1, width - 1)
    ]
    if not found:
        return 0.0
    mean = sum(found) / len(found)
    sharpness = sum((each - mean) ** 2 for each in found) / len(found)
    clipped = sum(not 5 <= each <= 250 for row in luma for each in row)
    return sharpness * (1 - clipped / (height * width))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32), st.sampled_from([1, 6, 256]))
def test_it_is_what_the_formula_says(height, width, seed, levels):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, levels, (height, width, 3)) * (255 // max(1, levels - 1))
    pixels = pixels.astype(np.uint8)
    assert quality(pixels) == pytest.approx(naive(pixels), rel=1e-9)


def test_blur_and_clipping_lower_it():
    rng = np.random.default_rng(0)
    pixels = rng.integers(30, 220, (64, 32, 3), dtype=np.uint8)
    blurred = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1)))
    clipped = pixels.copy()
    clipped[:32] = 255
    assert 0 < 10 * quality(blurred) < quality(pixels)
    assert quality(clipped) < 0.6 * quality(pixels)


@pytest.mark.parametrize("level", [4, 5, 250, 251])
def test_the_limits_of_exposure_are_the_levels_told(level):
    pixels = np.full((9, 9, 3), 100, np.uint8)
    pixels[4, 4] = 200  # some sharpness
    before = quality(pixels)
    pixels[0, 0] = level  # a corner is not a neighbor of an inner pixel
    share = 80 / 81 if level in (4, 251) else 1
    assert quality(pixels) == pytest.approx(before * share)
