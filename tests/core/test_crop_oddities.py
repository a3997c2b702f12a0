import numpy as np
import pytest

from pipeline.core.crop_oddities import FRAME, THIN, oddity, range_used


def picture(height, width, levels=255):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[height // 2, width // 2, 1] = levels
    return pixels


@pytest.mark.parametrize("levels", [0, 1, 12, 13, 255])
def test_the_range_is_that_of_the_widest_channel(levels):
    pixels = picture(64, 32, levels)
    assert range_used(pixels) == pytest.approx(levels / 255)
    assert oddity(pixels) == (THIN if levels <= 12 else None)


def test_one_color_is_thin_however_strong_it_is():
    assert oddity(np.full((64, 32, 3), (255, 0, 128), np.uint8)) == THIN


@pytest.mark.parametrize(
    ("height", "width", "is_frame"),
    [
        *((1080, 1920, True), (480, 640, True), (360, 640, True), (640, 480, False)),
        *((256, 128, False), (300, 620, False), (1920, 1080, False), (700, 720, False)),
    ],
)
def test_a_picture_as_large_and_wide_as_a_frame_is_one(height, width, is_frame):
    assert oddity(picture(height, width)) == (FRAME if is_frame else None)
