"""Views: the test-time variants of one crop, and how their features become one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.features import faults, normalize
from pipeline.model.recipe import Recipe


@dataclass(frozen=True)
class View:
    """One variant of a crop: its (height, width) for the network, and whether it is mirrored."""

    size: tuple[int, int]
    mirrored: bool


def views_of(recipe: Recipe) -> list[View]:
    """The views of a recipe: every scale of the original crop, each mirrored too if `flip`.

    Scale s is round(s * height) x round(s * width), at least 1 x 1.

    >>> views_of(Recipe(weights="0" * 64, flip=True))
    [View(size=(256, 128), mirrored=False), View(size=(256, 128), mirrored=True)]
    """
    sizes = [
        (max(1, round(scale * recipe.height)), max(1, round(scale * recipe.width)))
        for scale in recipe.scales
    ]
    return [View(size, side) for size in sizes for side in ((False, True)[: 1 + recipe.flip])]


def mirror(batch: torch.Tensor) -> torch.Tensor:
    """A batch `[B, C, H, W]` with left and right exchanged, in memory of its own."""
    return torch.flip(batch, dims=[3])


def fuse(views: Sequence[NDArray[np.float32]], fusion: str) -> NDArray[np.float32]:
    """One feature a crop, float32 `[N, D]`, from its views' raw features, each float32 `[N, D]`.

    `unit`: the mean of the views' unit vectors; `raw`: the mean of the raw features. Summed in
    float64. A row that a view cannot contribute to (NaN, infinite, or of length 0 under `unit`)
    becomes such a view's raw row, so that the caller finds the fault in it.

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
        total[sound] += normalize(raw[sound]) if fusion == "unit" else raw[sound]
        faulty |= {row: raw[row] for row in wrong}
    fused = (total / len(views)).astype(np.float32)
    for row, values in faulty.items():
        fused[row] = values
    return fused
