"""Colors that vary as those of cameras do: brightness, color cast, contrast, and saturation.

The color jitter of re-identification (fast-reid, torchreid) as torchvision computes it, with a gain
of each channel in place of a turned hue, since light and white balance change cameras so. For a
crop with red, green and blue x [3], and the gray y(x) = 0.299 r + 0.587 g + 0.114 b (ITU-R BT.601):

    x <- gains x                                    brightness and color cast
    x <- m + contrast (x - m)                       m the mean of y over the crop
    x <- y(x) + saturation (x - y(x))

Values below 0 and above 255 are cut off once, at the end; torchvision does so after each step.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_GRAY = (0.299, 0.587, 0.114)
_WHITE = 255


@dataclass(frozen=True)
class ColorFactors:
    """By what the colors of a crop are multiplied."""

    gains: tuple[float, float, float]
    """Of red, green and blue."""
    contrast: float
    saturation: float


def draw_color_factors(rng: np.random.Generator, reach: float) -> ColorFactors:
    """Factors from 1 - reach to 1 + reach, each drawn evenly.

    A gain is the product of one of the crop and one of its channel, which reaches half as far.
    """
    brightness, contrast, saturation = rng.uniform(1 - reach, 1 + reach, 3).tolist()
    red, green, blue = (brightness * rng.uniform(1 - reach / 2, 1 + reach / 2, 3)).tolist()
    return ColorFactors((red, green, blue), contrast, saturation)


def change_colors(crop: Tensor, factors: ColorFactors) -> Tensor:
    """A crop uint8 `[3, H, W]` in RGB with other colors, of the same type. ValueError if it is not.

    >>> crop = torch.tensor([[[100]], [[100]], [[100]]], dtype=torch.uint8)
    >>> change_colors(crop, ColorFactors((1.2, 1, 0.5), 1, 1)).flatten().tolist()
    [120, 100, 50]
    >>> change_colors(crop, ColorFactors((1.2, 1, 0.5), 1, 0)).flatten().tolist()
    [100, 100, 100]
    """
    if crop.dtype != torch.uint8 or crop.ndim != 3 or len(crop) != 3:
        raise ValueError(
            f"colors are those of crops uint8 [3, H, W], not {crop.dtype} {list(crop.shape)}"
        )
    pixels = crop.flatten(1).float()
    # All three steps are linear in the colors of a pixel, so they are one matrix and one shift.
    gray = torch.tensor(_GRAY, device=crop.device).expand(3, 3)
    gains = torch.tensor(factors.gains, device=crop.device)
    mean = (gray[0] * gains * pixels.mean(1)).sum()
    mix = factors.saturation * torch.eye(3, device=crop.device) + (1 - factors.saturation) * gray
    made = torch.addmm(
        (1 - factors.contrast) * mean.expand(3, 1), factors.contrast * mix * gains, pixels
    )
    return made.round_().clamp_(0, _WHITE).to(torch.uint8).view_as(crop)
