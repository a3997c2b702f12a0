"""Detect pictures that are probably not a crop of one person."""

import numpy as np
from numpy.typing import NDArray

THIN, FRAME = "thin", "frame"
"""Pictures that use almost none of the range of levels, and pictures as large as a whole frame."""

LEAST_RANGE = 0.05
"""The share of the 256 levels that a picture must span; below it, the picture is a single color."""

# The smallest frame size of a camera, and the least ratio of its width to its height.
_FRAME_HEIGHT, _FRAME_WIDTH, _FRAME_ASPECT = 360, 640, 1.2
_STEP = 8


def range_used(pixels: NDArray[np.uint8]) -> float:
    """The share of the levels 0 to 255 that the widest channel of `[H, W, 3]` spans.

    >>> range_used(np.full((4, 4, 3), 7, np.uint8))
    0.0
    >>> range_used(np.array([[[0, 9, 9], [51, 9, 9]]], np.uint8))
    0.2
    """
    levels = pixels.reshape(-1, pixels.shape[2])
    return float((levels.max(axis=0).astype(int) - levels.min(axis=0)).max() / 255)


def oddity(pixels: NDArray[np.uint8]) -> str | None:
    """The oddity of a picture `[H, W, 3]`: `THIN`, `FRAME`, or None.

    >>> oddity(np.full((128, 64, 3), 27, np.uint8))
    'thin'
    """
    # A few pixels almost always suffice to show that there is a range.
    if range_used(pixels[::_STEP, ::_STEP]) < LEAST_RANGE and range_used(pixels) < LEAST_RANGE:
        return THIN
    height, width = (np.array(size) for size in pixels.shape[:2])
    return FRAME if is_frame(height, width) else None


def is_frame(heights: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether pictures of these sizes `[N]` are as large and as wide as a camera's whole frame.

    >>> is_frame(np.array([720, 256]), np.array([1280, 128]))
    array([ True, False])
    """
    is_large = (heights >= _FRAME_HEIGHT) & (widths >= _FRAME_WIDTH)
    return is_large & (widths > _FRAME_ASPECT * heights)
