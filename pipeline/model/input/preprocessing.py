"""Convert decoded crops to the network's input: resize, then normalize."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.model.input.resampling import resample
from pipeline.model.recipe import Recipe


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize a crop uint8 `[H, W, 3]` to `height` x `width`, as uint8 `[3, height, width]`.

    Raise InputError for any other image.

    >>> resize(np.full((4, 2, 3), 7, np.uint8), 8, 4).shape
    (3, 8, 4)
    """
    out = np.empty((3, height, width), np.uint8)
    resample(_checked(image), out)
    return out


def letterbox(
    image: NDArray[np.uint8], height: int, width: int, color: Sequence[int]
) -> NDArray[np.uint8]:
    """Resize a crop uint8 `[H, W, 3]` to fit into `height` x `width` with its own aspect ratio.

    The crop is centered (an odd pixel goes below and to the right) on `color` (three levels, RGB).
    Result and errors are those of `resize`.

    >>> letterbox(np.full((2, 2, 3), 9, np.uint8), 4, 2, (0, 0, 0))[0].tolist()
    [[0, 0], [9, 9], [9, 9], [0, 0]]
    """
    out = np.empty((3, height, width), np.uint8)
    _resample_letterboxed(_checked(image), out, color)
    return out


def _checked(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The crop with its rows contiguous in memory; copied only if necessary."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(
            f"a crop must be uint8 of shape [H, W, 3], not {image.dtype} of {list(image.shape)}"
        )
    return np.ascontiguousarray(image)


def _resample_letterboxed(
    image: NDArray[np.uint8], out: NDArray[np.uint8], color: Sequence[int]
) -> None:
    size = out.shape[1:]
    ratio = min(after / before for before, after in zip(image.shape, size, strict=False))
    height, width = (
        min(max(1, round(before * ratio)), after)
        for before, after in zip(image.shape, size, strict=False)
    )
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    out[:] = np.array(color, np.uint8)[:, None, None]
    resample(image, out[:, top : top + height, left : left + width])


def padding_color(recipe: Recipe) -> tuple[int, int, int]:
    """The letterbox's color (RGB, 0..255): the recipe's mean, which normalizes to about 0.

    >>> padding_color(Recipe(weights="0" * 64))
    (124, 116, 104)
    """
    levels = [min(max(round(mean / recipe.pixel_range * 255), 0), 255) for mean in recipe.mean]
    first, second, third = levels if recipe.channels == "rgb" else levels[::-1]
    return first, second, third


def empty_batch(rows: int, size: tuple[int, int], *, pinned: bool = False) -> torch.Tensor:
    """Memory for a batch uint8 `[rows, 3, *size]`; pinned for copies to a GPU."""
    return torch.zeros((rows, 3, *size), dtype=torch.uint8, pin_memory=pinned)


def fill_batch(
    batch: torch.Tensor, images: Sequence[NDArray[np.uint8]], recipe: Recipe
) -> torch.Tensor:
    """Write crops uint8 `[H, W, 3]` of any sizes into the first rows of `batch`, and return it.

    Each crop is resized from its original to the batch's size; rows beyond the crops become black.
    `batch` is reused from call to call, because fresh memory costs more than the resize.
    """
    color = padding_color(recipe)
    for image, out in zip(images, batch.numpy(), strict=False):
        if recipe.letterbox:
            _resample_letterboxed(_checked(image), out, color)
        else:
            resample(_checked(image), out)
    batch[len(images) :].zero_()
    return batch


def standardize(
    batch: torch.Tensor, recipe: Recipe, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute `(x / 255 * pixel_range - mean) / std` per channel for uint8 `[B, 3, H, W]` in RGB.

    The computation is one product and one sum, so a value's bits do not depend on its place. The
    result is float32 `[B, 3, H, W]`, contiguous, on the batch's device, in the network's channel
    order, and in `out` if given; `batch` does not change.
    """
    std = np.array(recipe.std)
    factor = torch.from_numpy(recipe.pixel_range / (255 * std)).float().view(3, 1, 1)
    shift = torch.from_numpy(-np.array(recipe.mean) / std).float().view(3, 1, 1)
    if out is None:
        out = torch.empty(batch.shape, dtype=torch.float32, device=batch.device)
    # No need to wait: for so little data, the GPU has its copy when the call returns.
    factor = factor.to(batch.device, non_blocking=True)
    shift = shift.to(batch.device, non_blocking=True)
    # On a CPU, image by image: one image stays in the cache from step to step.
    parts = [(out, batch)] if batch.is_cuda else zip(out, batch, strict=True)
    for into, pixels in parts:
        into.copy_(pixels if recipe.channels == "rgb" else pixels.flip(-3))
        into.mul_(factor).add_(shift)
    return out
