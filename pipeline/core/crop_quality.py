"""The quality of a crop: its sharpness, reduced for under- and overexposed pixels."""

import numpy as np
from numpy.typing import NDArray

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in the luma of ITU-R BT.601."""

DARKEST, BRIGHTEST = 5, 250
"""Gray levels beyond which a pixel counts as clipped."""


def quality(pixels: NDArray[np.uint8]) -> float:
    """The quality of a crop uint8 `[H, W, 3]` (RGB): sharpness times exposure, in squared levels.

    Sharpness is the variance of the Laplacian of the luma (4 neighbors, inner pixels; Pech-Pacheco
    et al., Diatom autofocusing in brightfield microscopy, ICPR 2000) at the crop's own size.
    Exposure is the share of pixels whose luma is from 5 to 250. The quality is 0 for a picture
    without inner pixels, of a single color, or that is all black or white. The product of the two
    is this project's definition.

    >>> quality(np.full((8, 8, 3), 128, np.uint8))
    0.0
    >>> checks = np.indices((8, 8)).sum(0) % 2 * 200 + 20
    >>> quality(np.repeat(checks[..., None], 3, axis=2).astype(np.uint8))
    640000.0
    """
    luma = np.rint(pixels.astype(np.float32) @ LUMA).astype(np.int32)
    if min(luma.shape) < 3:
        return 0.0
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    exposed = (luma >= DARKEST) & (luma <= BRIGHTEST)
    return float(laplacian.var(dtype=np.float64) * exposed.mean())
