"""Convert decoded crops to the network's input: resize, then normalize."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import empty_rows
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


def empty_batch(rows: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Memory for a batch uint8 `[rows, 3, *size]`, all black."""
    return np.zeros((rows, 3, *size), np.uint8)


def fill_batch(
    batch: NDArray[np.uint8], images: Sequence[NDArray[np.uint8]], recipe: Recipe
) -> NDArray[np.uint8]:
    """Write crops uint8 `[H, W, 3]` of any sizes into the first rows of `batch`, and return it.

    Each crop is resized from its original to the batch's size; rows beyond the crops become black.
    `batch` is reused from call to call, because fresh memory costs more than the resize.
    """
    color = padding_color(recipe)
    for image, out in zip(images, batch, strict=False):
        if recipe.letterbox:
            _resample_letterboxed(_checked(image), out, color)
        else:
            resample(_checked(image), out)
    batch[len(images) :] = 0
    return batch


def empty_input(shape: Sequence[int]) -> NDArray[np.float32]:
    """Memory float32 of a shape, which begins at a whole cache line as PyTorch's does.

    Vectors of 64 bytes never lie across two lines then, and a library whose sums depend on the
    place of its input in memory gives the same bits each time.

    >>> empty_input((2, 3, 5, 4)).ctypes.data % 64
    0
    """
    return empty_rows(1, math.prod(shape)).reshape(shape)


def channel_scaling(recipe: Recipe) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The factor and the shift of `standardize`, each float32 `[3, 1, 1]`."""
    std = np.array(recipe.std)
    factor, shift = recipe.pixel_range / (255 * std), -np.array(recipe.mean) / std
    return (
        factor.astype(np.float32).reshape(3, 1, 1),
        shift.astype(np.float32).reshape(3, 1, 1),
    )


def standardize(
    batch: NDArray[np.uint8], recipe: Recipe, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Compute `(x / 255 * pixel_range - mean) / std` per channel for uint8 `[B, 3, H, W]` in RGB.

    The computation is one product and one sum, so a value's bits do not depend on its place. The
    result is float32 `[B, 3, H, W]`, contiguous, in the network's channel order, and in `out` if
    given; `batch` does not change.

    >>> recipe = Recipe(weights="0" * 64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> standardize(np.full((1, 3, 1, 2), 255, np.uint8), recipe)[0, 0].tolist()
    [[1.0, 1.0]]
    """
    factor, shift = channel_scaling(recipe)
    if out is None:
        out = empty_input(batch.shape)
    channels = slice(None) if recipe.channels == "rgb" else slice(None, None, -1)
    # Image by image: one image stays in the cache from step to step.
    for into, pixels in zip(out, batch, strict=True):
        np.copyto(into, pixels[channels])
        into *= factor
        into += shift
    return out
