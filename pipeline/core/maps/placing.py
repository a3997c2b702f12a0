"""Points of rows that are new to a map: where their neighbors are."""

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import Tiling
from pipeline.core.maps.fuzzy import memberships
from pipeline.core.neighbors.topk import TopK


def place_among(
    near: TopK, points: NDArray[np.float32], *, tiling: Tiling = Tiling()
) -> NDArray[np.float32]:
    """Points float32 `[M, 2]` of M new rows: the weighted means of their neighbors' points.

    `near` `[M, k]` are their best neighbors among the rows that have `points` `[N, 2]`; weights are
    the `memberships` of UMAP, which starts new rows at the same place. ValueError for a row without
    a neighbor.

    >>> near = TopK(np.array([[0.9, 0.8, 0.5]], np.float32), np.array([[1, 2, 0]]))
    >>> place_among(near, np.array([[0, 0], [1, 0], [0, 1]], np.float32)).round(2)
    array([[0.5 , 0.36]], dtype=float32)
    """
    alone = np.flatnonzero((near.rows < 0).all(axis=1))
    if len(alone):
        raise ValueError(f"row {alone[0]} has no neighbor that it can be placed at")
    weights = memberships(near, tiling=tiling).astype(np.float64)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("mk,mkc->mc", weights, points[near.rows]).astype(np.float32)
