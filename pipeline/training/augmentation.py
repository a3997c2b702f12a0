"""Crops that vary as cameras do: in other colors, mirrored, shifted, and partly hidden.

Flip and pad-and-crop are those of Luo et al. (CVPR workshops 2019); a part is hidden by random
erasing (Zhong et al., AAAI 2020): with a probability, a rectangle whose area is a random share of
the crop and whose aspect is random takes one color. Aspects are drawn evenly in their logarithm, so
that high and wide rectangles are equally likely, as torchvision does. Colors vary as in
`pipeline.training.colors`.

How a crop varies is a function of the seed, the epoch, its row, and how often the row came before
in the epoch. So neither the size and order of batches nor the number of processes changes a crop.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import InputError
from pipeline.training.colors import ColorFactors, change_colors, draw_color_factors

# A rectangle that is wider or higher than the crop is drawn again, at most this often.
_ATTEMPTS = 100


@dataclass(frozen=True)
class AugmentationSettings:
    """How much crops vary. Raise InputError if impossible."""

    flip: float = 0.5
    """Probability that a crop is mirrored."""
    pad: int = 10
    """Pixels by which it may be shifted in each direction."""
    erase: float = 0.5
    """Probability that a part of it is hidden."""
    erase_area: tuple[float, float] = (0.02, 0.4)
    """Least and largest share of the crop that is hidden."""
    erase_aspect: float = 0.3
    """Height by width of the hidden part lies from this to its inverse, evenly in the logarithm."""
    color_jitter: float = 0.0
    """By how much brightness, color cast, contrast and saturation vary: 0.2 is up to 20 %."""

    def __post_init__(self) -> None:
        for name in ("flip", "erase", "color_jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` must lie from 0 to 1, not {getattr(self, name)}")
        if self.pad < 0:
            raise InputError(f"`pad` must be 0 or more, not {self.pad}")
        least, largest = self.erase_area
        if not 0 < least <= largest <= 1:
            raise InputError(
                f"`erase_area` must be two shares from above 0 to 1, not {least} and {largest}"
            )
        if not 0 < self.erase_aspect <= 1:
            raise InputError(f"`erase_aspect` must lie from above 0 to 1, not {self.erase_aspect}")


@dataclass(frozen=True)
class CropVariation:
    """What happens to one crop, in this order."""

    colors: ColorFactors | None
    """What its colors are multiplied by."""
    mirrored: bool
    down: int
    """Pixels by which the content moves down; up if negative."""
    right: int
    """Pixels by which it moves to the right; to the left if negative."""
    hidden: tuple[int, int, int, int] | None
    """Top, left, bottom and right of the hidden part, the last two exclusive."""


def draw_variation(
    height: int,
    width: int,
    settings: AugmentationSettings,
    *,
    seed: int,
    epoch: int,
    row: int,
    turn: int = 0,
) -> CropVariation:
    """What happens to the crop of a row in an epoch.

    `turn` is how often the row came before in the epoch. ValueError if a number is negative.

    >>> draw_variation(256, 128, AugmentationSettings(), seed=0, epoch=1, row=2)
    CropVariation(colors=None, mirrored=False, down=0, right=-2, hidden=(175, 38, 217, 119))
    """
    rng = np.random.default_rng([seed, epoch, row, turn, 2])  # other streams end otherwise
    mirrored = bool(rng.random() < settings.flip)
    down, right = rng.integers(-settings.pad, settings.pad, 2, endpoint=True).tolist()
    hidden = None
    if rng.random() < settings.erase:
        hidden = _draw_rectangle(height, width, settings, rng)
    # Drawn last, so that with and without it all else is the same.
    colors = draw_color_factors(rng, settings.color_jitter) if settings.color_jitter else None
    return CropVariation(colors, mirrored, down, right, hidden)


def augment(
    crops: Tensor,
    rows: np.ndarray,
    settings: AugmentationSettings = AugmentationSettings(),
    *,
    seed: int,
    epoch: int,
    turns: np.ndarray | None = None,
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Tensor:
    """New crops `[B, 3, H, W]` of the same type: the given ones, each varied in its own way.

    `rows` and `turns` int `[B]` are those of `EpochBatches`. `fill` is the color of what is
    shifted in and of hidden parts, in the units of the crops: the mean of the recipe, or 0 where it
    has been subtracted. ValueError if shapes do not fit, `fill` does not fit the type, or colors
    are to vary of crops that are not uint8.

    >>> crops = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 2, 2)
    >>> augment(crops, np.array([0]), AugmentationSettings(1, 0, 0), seed=0, epoch=0)[0, 0]
    tensor([[1, 0],
            [3, 2]], dtype=torch.uint8)
    """
    turns = np.zeros(len(rows), np.int64) if turns is None else turns
    if crops.ndim != 4 or crops.shape[1] != 3 or not len(crops) == len(rows) == len(turns):
        raise ValueError(
            f"crops must be [B, 3, H, W] with a row and a turn each, not {list(crops.shape)},"
            f" {len(rows)} rows and {len(turns)} turns"
        )
    height, width = crops.shape[2:]
    color = _color(fill, crops)
    made = torch.empty_like(crops)
    for place, (row, turn) in enumerate(zip(rows.tolist(), turns.tolist(), strict=True)):
        variation = draw_variation(
            height, width, settings, seed=seed, epoch=epoch, row=row, turn=turn
        )
        _vary(crops[place], variation, color, made[place])
    return made


def _color(fill: tuple[float, float, float], crops: Tensor) -> Tensor:
    """`fill` in the type of the crops, `[3, 1, 1]`; rounded for whole numbers."""
    if not crops.is_floating_point():
        limits = torch.iinfo(crops.dtype)
        if not all(limits.min <= value <= limits.max for value in fill):
            raise ValueError(f"fill {fill} lies beyond the range of {crops.dtype}")
        fill = (round(fill[0]), round(fill[1]), round(fill[2]))
    return torch.tensor(fill, dtype=crops.dtype, device=crops.device)[:, None, None]


def _vary(crop: Tensor, variation: CropVariation, color: Tensor, made: Tensor) -> None:
    """Write the varied `crop` `[3, H, W]` to `made`."""
    height, width = crop.shape[1:]
    if variation.colors is not None:
        crop = change_colors(crop, variation.colors)
    source = crop.flip(2) if variation.mirrored else crop
    y, x = variation.down, variation.right
    if y or x:
        made[:] = color
    if abs(y) < height and abs(x) < width:
        made[:, max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)] = source[
            :, max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)
        ]
    if variation.hidden is not None:
        top, left, bottom, right = variation.hidden
        made[:, top:bottom, left:right] = color


def _draw_rectangle(
    height: int, width: int, settings: AugmentationSettings, rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """A rectangle within the crop; None if none of many fits."""
    reach = abs(math.log(settings.erase_aspect))
    for _ in range(_ATTEMPTS):
        area = height * width * rng.uniform(*settings.erase_area)
        aspect = math.exp(rng.uniform(-reach, reach))
        high, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < high <= height and 0 < wide <= width:
            top, left = (int(rng.integers(room + 1)) for room in (height - high, width - wide))
            return top, left, top + high, left + wide
    return None
