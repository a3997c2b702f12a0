"""Views: the test-time variants of one crop, and the fusion of their features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.vectors import faults, unit_vectors
from pipeline.model.recipe import Recipe

_ENLARGED = 1.125  # of the picture that five crops are windows of


@dataclass(frozen=True)
class View:
    """One variant of a crop: its (height, width) for the network, and whether it is mirrored.

    With a `corner` (top, left) it is a window of that size in the crop at `canvas`; otherwise it is
    the whole crop.
    """

    size: tuple[int, int]
    mirrored: bool
    corner: tuple[int, int] | None = None

    @property
    def canvas(self) -> tuple[int, int]:
        """The (height, width) to which the crop is resized before the window is cut."""
        return self.size if self.corner is None else _enlarged(self.size)


def views_of(recipe: Recipe) -> list[View]:
    """The views of a recipe: every scale of the original crop, in five windows if `five_crops`.

    Scale s is round(s * height) x round(s * width), at least 1 x 1. The windows are the corners and
    the center of the crop at 9/8 of that size. With `flip`, each view also comes mirrored.

    >>> [(view.size, view.mirrored) for view in views_of(Recipe(weights="0" * 64, flip=True))]
    [((256, 128), False), ((256, 128), True)]
    """
    sizes = [
        (max(1, round(scale * recipe.height)), max(1, round(scale * recipe.width)))
        for scale in recipe.scales
    ]
    return [
        View(size, side, corner)
        for size in sizes
        for corner in (_corners(size) if recipe.five_crops else (None,))
        for side in ((False, True)[: 1 + recipe.flip])
    ]


def _enlarged(size: tuple[int, int]) -> tuple[int, int]:
    return round(_ENLARGED * size[0]), round(_ENLARGED * size[1])


def _corners(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Top left, top right, bottom left, bottom right, center."""
    down, right = (large - small for large, small in zip(_enlarged(size), size, strict=True))
    return [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]


def mirror(batch: NDArray) -> NDArray:
    """Mirror a batch `[B, C, H, W]` left to right, in new memory.

    >>> mirror(np.array([[[[1, 2, 3]]]], np.uint8)).tolist()
    [[[[3, 2, 1]]]]
    """
    if batch.dtype != np.uint8 or batch.shape[3] % 8 or batch.strides[3] != 1:
        return batch[..., ::-1].copy()
    # Words of eight pixels, whose bytes change their order, take a quarter of the time.
    mirrored = np.empty(batch.shape, np.uint8)
    mirrored.view(">u8")[:] = batch.view("<u8")[..., ::-1]
    return mirrored


def fuse(views: Sequence[NDArray[np.float32]], fusion: str) -> NDArray[np.float32]:
    """Fuse the raw features of the views, each float32 `[N, D]`, into one per crop, float32 `[N,
    D]`.

    `unit`: the mean of the views' unit vectors; `raw`: the mean of the raw features. Sums are in
    float64. If a view cannot contribute to a row (NaN, infinite, or of length 0 under `unit`), the
    row becomes that view's raw row, so that the caller finds the fault in it.

    >>> fuse([np.array([[2.0, 0.0]]), np.array([[0.0, 1.0]])], "unit")
    array([[0.5, 0.5]], dtype=float32)
    >>> fuse([np.array([[2.0, 0.0]]), np.array([[0.0, 1.0]])], "raw")
    array([[1. , 0.5]], dtype=float32)
    """
    total = np.zeros(views[0].shape)
    faulty: dict[int, NDArray[np.float32]] = {}
    for raw in views:
        wrong = [row for row in faults(raw) if fusion == "unit" or not np.isfinite(raw[row]).all()]
        sound = np.setdiff1d(np.arange(len(raw)), wrong)
        total[sound] += unit_vectors(raw[sound]) if fusion == "unit" else raw[sound]
        faulty |= {row: raw[row] for row in wrong}
    fused = (total / len(views)).astype(np.float32)
    for row, values in faulty.items():
        fused[row] = values
    return fused
