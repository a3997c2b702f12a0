"""Which side of a picture is up, as its EXIF block tells."""

import numpy as np

_ORIENTATION, _LONG = 0x0112, 4


def orientation(block: bytes) -> int:
    """The orientation from 1 to 8 that an EXIF block tells; 1 (upright) where it tells none.

    >>> orientation(bytes.fromhex("4949 2a00 08000000 0100 1201 0300 01000000 06000000"))
    6
    """
    tiff = block.removeprefix(b"Exif\0\0")
    if tiff[:2] not in (b"II", b"MM"):
        return 1
    little = tiff[:2] == b"II"

    def read(start: int, size: int) -> int:
        return int.from_bytes(tiff[start : start + size], "little" if little else "big")

    directory = read(4, 4)
    for index in range(read(directory, 2)):
        entry = directory + 2 + 12 * index
        if entry + 12 > len(tiff):
            break
        if read(entry, 2) == _ORIENTATION:
            told = read(entry + 8, 4 if read(entry + 2, 2) == _LONG else 2)
            return told if 1 <= told <= 8 else 1
    return 1


def upright(pixels: np.ndarray, block: bytes) -> np.ndarray:
    """The picture `[H, W, C]` turned and mirrored as its EXIF block says; contiguous."""
    told = orientation(block)
    if told >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if told in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if told in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
