"""The nearest rows of every row's own camera, and its nearest rows of all other cameras, exactly.

Every pair of rows is compared once: pairs within a camera feed the first lists, all others the
second.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import Tiling
from pipeline.core.ledger import Ledger
from pipeline.core.neighbors.apart import NO_GROUP, neighbors_apart
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.neighbors.topk import TopK


def neighbors_by_camera(
    features: NDArray[np.float32],
    cameras: NDArray[np.int64],
    same: int,
    other: int,
    *,
    tiling: Tiling = Tiling(),
    ledger: Ledger | None = None,
) -> tuple[TopK, TopK]:
    """The `same` best rows of a row's own camera, and the `other` best rows of all other cameras.

    `features` are `[N, D]`, `cameras` int64 `[N]` numbers from 0, or -1 where the camera is not
    known: such a row has no list of its own camera, and stands in the lists of all others. Returns
    two `TopK`, `[N, same]` and `[N, other]`, of scores by `kernels.score`; ties go to the lower
    row. ValueError if the cameras are not one number for each row.

    >>> x = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], np.float32)
    >>> own, others = neighbors_by_camera(x, np.array([0, 0, 1]), 1, 1)
    >>> own.rows.ravel(), others.rows.ravel()
    (array([ 1,  0, -1]), array([2, 2, 1]))
    """
    if cameras.shape != (len(features),) or (len(cameras) and cameras.min() < NO_GROUP):
        raise ValueError(
            f"cameras must be a number from -1 for each of {len(features)} rows, not of shape"
            f" {cameras.shape}"
        )
    own = TopK.none(len(features), same)
    for camera in np.unique(cameras[cameras != NO_GROUP]):
        rows = np.flatnonzero(cameras == camera)
        if len(rows) > 1:
            near = neighbors(features[rows], same, first_row=rows, tiling=tiling, ledger=ledger)
            own.scores[rows, : near.k], own.rows[rows, : near.k] = near.scores, near.rows
    others = neighbors_apart(features, cameras, other, tiling=tiling, ledger=ledger)
    return own, others
