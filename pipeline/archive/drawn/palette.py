"""The colors of a drawn archive, and the random streams behind all choices in it."""

from itertools import accumulate

import numpy as np

Color = tuple[float, float, float]
Floats = np.ndarray

# Red, green, blue, and how often tops and bottoms have the color: dark and plain ones are common,
# so many people look alike and color alone does not identify them.
_CLOTH: tuple[tuple[int, int, int, int, int], ...] = (
    (30, 30, 34, 24, 28),  # black
    (66, 68, 74, 14, 12),  # charcoal
    (132, 134, 138, 9, 8),  # gray
    (226, 226, 222, 14, 4),  # white
    (34, 44, 84, 14, 20),  # navy
    (54, 92, 160, 7, 12),  # blue
    (132, 174, 212, 5, 5),  # sky
    (178, 40, 44, 8, 2),  # red
    (104, 34, 50, 4, 2),  # burgundy
    (216, 138, 160, 3, 1),  # pink
    (214, 120, 48, 3, 1),  # orange
    (222, 192, 76, 3, 1),  # yellow
    (52, 116, 70, 4, 1),  # green
    (100, 100, 64, 3, 5),  # olive
    (110, 78, 54, 3, 5),  # brown
    (196, 176, 142, 4, 8),  # beige
    (104, 70, 142, 2, 1),  # purple
    (36, 124, 126, 2, 1),  # teal
)
TOPS, BOTTOMS = 3, 4  # columns of the table: how often


def stream(seed: int, *key: str | int) -> np.random.Generator:
    """Open the random stream of one drawn thing, named by words and numbers."""
    words = [part.encode() if isinstance(part, str) else [part] for part in key]
    numbers = tuple(number for word in words for number in word)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=numbers))


def cloth(rng: np.random.Generator, weight: int) -> Color:
    """Choose the color of a garment with the frequencies of column `weight` (`TOPS` or
    `BOTTOMS`).
    """
    mark = rng.random() * sum(entry[weight] for entry in _CLOTH)
    running = accumulate(entry[weight] for entry in _CLOTH)
    chosen = next(entry for entry, end in zip(_CLOTH, running, strict=True) if mark < end)
    return jitter(rng, chosen[:3], 9)


def jitter(rng: np.random.Generator, color: tuple[int, int, int], spread: float) -> Color:
    """Vary a color by up to `spread` levels in each channel, away from black and white."""
    red, green, blue = (max(8.0, min(248.0, c + spread * (2 * rng.random() - 1))) for c in color)
    return red, green, blue


def rgb(color: Color | Floats) -> tuple[int, int, int]:
    """Round the color to whole levels from 0 to 255, as Pillow needs it."""
    red, green, blue = (max(0, min(255, round(float(c)))) for c in color)
    return red, green, blue
