"""From decoded crops to the network's input: resized, then normalised.

The resize is antialiased bicubic (a = -0.5, support widened when shrinking), columns first and then
rows, each pass rounded to uint8, with 16-bit weights: torchvision's, which is Pillow's filter in
narrower weights. Beside Pillow (22-bit weights) most bytes are equal and the others differ by 1 or
2 levels of 255, as long as Pillow too does the columns first (always before version 13).
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from pipeline.errors import InputError
from pipeline.model.recipe import Recipe


def resize(image: NDArray[np.uint8], height: int, width: int) -> torch.Tensor:
    """A crop uint8 `[H, W, 3]` at `height` x `width`, as uint8 `[3, height, width]`.

    The result lies in channels-last memory of its own. Raises InputError for any other image.

    >>> resize(np.full((4, 2, 3), 7, np.uint8), 8, 4).shape
    torch.Size([3, 8, 4])
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(
            f"a crop must be uint8 of shape [H, W, 3], not {image.dtype} of {list(image.shape)}"
        )
    # PyTorch takes no read-only and no mirrored memory; a plain array is not copied.
    source = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
    # Channels last from end to end: the other memory format takes a slower path.
    resized = functional.resize(
        source, [height, width], interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    return resized.clone() if resized is source else resized


def letterbox(
    image: NDArray[np.uint8], height: int, width: int, colour: Sequence[int]
) -> torch.Tensor:
    """A crop uint8 `[H, W, 3]` as large as fits in `height` x `width` in its own aspect ratio.

    It is centred (an odd pixel goes below and to the right) on `colour` (three levels, RGB).
    Result and errors as for `resize`.

    >>> letterbox(np.full((2, 2, 3), 9, np.uint8), 4, 2, (0, 0, 0))[0].tolist()
    [[0, 0], [9, 9], [9, 9], [0, 0]]
    """
    ratio = min(height / max(image.shape[0], 1), width / max(image.shape[1], 1))
    inner = [
        min(max(1, round(side * ratio)), limit)
        for side, limit in zip(image.shape[:2], (height, width), strict=True)
    ]
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    canvas = torch.empty((height, width, 3), dtype=torch.uint8)
    canvas[:] = torch.tensor(colour, dtype=torch.uint8)
    framed = canvas.permute(2, 0, 1)
    framed[:, top : top + inner[0], left : left + inner[1]] = resize(image, inner[0], inner[1])
    return framed


def padding_colour(recipe: Recipe) -> tuple[int, int, int]:
    """The letterbox's colour (RGB, 0..255): the recipe's mean, so that it normalises to about 0.

    >>> padding_colour(Recipe(weights="0" * 64))
    (124, 116, 104)
    """
    levels = [min(max(round(mean / recipe.pixel_range * 255), 0), 255) for mean in recipe.mean]
    first, second, third = levels if recipe.channels == "rgb" else levels[::-1]
    return first, second, third


def empty_batch(rows: int, size: tuple[int, int], *, pinned: bool = False) -> torch.Tensor:
    """Memory for a batch uint8 `[rows, 3, *size]`, channels last; pinned for copies to a GPU."""
    return torch.zeros((rows, *size, 3), dtype=torch.uint8, pin_memory=pinned).permute(0, 3, 1, 2)


def fill(batch: torch.Tensor, images: Sequence[NDArray[np.uint8]], recipe: Recipe) -> torch.Tensor:
    """Write crops uint8 `[H, W, 3]` of any sizes into the first rows of `batch`, and return it.

    Each is resized from its original to the batch's size; rows beyond the crops become black.
    `batch` is reused from call to call, because fresh memory costs more than the resize.
    """
    size, colour = (batch.shape[2], batch.shape[3]), padding_colour(recipe)
    for row, image in enumerate(images):
        batch[row] = letterbox(image, *size, colour) if recipe.letterbox else resize(image, *size)
    batch[len(images) :].zero_()
    return batch


def normalise(batch: torch.Tensor, recipe: Recipe, out: torch.Tensor | None = None) -> torch.Tensor:
    """`(x / 255 * pixel_range - mean) / std` by channel, of a batch uint8 `[B, 3, H, W]` in RGB.

    Computed as one product and one sum, so that a value's bits do not depend on its place. The
    result is float32 `[B, 3, H, W]`, contiguous, on the batch's device, in the network's channel
    order, written into `out` where given; `batch` is left as it is.
    """
    std = np.array(recipe.std)
    factor = torch.from_numpy(recipe.pixel_range / (255 * std)).float().view(3, 1, 1)
    shift = torch.from_numpy(-np.array(recipe.mean) / std).float().view(3, 1, 1)
    if out is None:
        out = torch.empty(batch.shape, dtype=torch.float32, device=batch.device)
    factor, shift = factor.to(batch.device), shift.to(batch.device)
    # On a CPU image by image: one stays in the cache from step to step.
    parts = [(out, batch)] if batch.is_cuda else zip(out, batch, strict=True)
    for into, pixels in parts:
        into.copy_(pixels if recipe.channels == "rgb" else pixels.flip(-3))
        into.mul_(factor).add_(shift)
    return out
