"""The EXIF orientation of a picture."""

import numpy as np

_TAG, _LONG = 0x0112, 4


def read(exif: bytes) -> int:
    """The orientation, 1 to 8, that an EXIF block tells; 1 (upright) where it tells none.

    >>> read(bytes.fromhex("4949 2a00 08000000 0100 1201 0300 01000000 06000000"))
    6
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    if tiff[:2] not in (b"II", b"MM"):
        return 1
    little = tiff[:2] == b"II"

    def number(start: int, size: int) -> int:
        return int.from_bytes(tiff[start : start + size], "little" if little else "big")

    directory = number(4, 4)
    for index in range(number(directory, 2)):
        entry = directory + 2 + 12 * index
        if entry + 12 > len(tiff):
            break
        if number(entry, 2) == _TAG:
            value = number(entry + 8, 4 if number(entry + 2, 2) == _LONG else 2)
            return value if 1 <= value <= 8 else 1
    return 1


def apply(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The picture `[H, W, C]` turned and mirrored so that it stands upright; contiguous."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
