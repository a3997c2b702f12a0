"""Find which side of a picture is up, from its EXIF block."""

import struct
import warnings

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

_DAMAGE = (struct.error, SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError)
"""The errors that Pillow raises for a block that it cannot read."""

# A block that is cut off after the orientation is good enough. The filter is set once, because
# pictures are decoded on threads, and a filter for the duration of a call would not be thread-safe.
warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)


def orientation(block: bytes) -> int:
    """The orientation from 1 to 8 of an EXIF block; 1 (upright) if it has none.

    >>> orientation(bytes.fromhex("4949 2a00 08000000 0100 1201 0300 01000000 06000000"))
    6
    """
    exif = Image.Exif()
    try:
        exif.load(block)
        value = exif.get(Base.Orientation, 1)
    except _DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright(pixels: np.ndarray, block: bytes) -> np.ndarray:
    """Turn and mirror the picture `[H, W, C]` as its EXIF block says; the result is contiguous."""
    value = orientation(block)
    if value >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if value in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if value in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
