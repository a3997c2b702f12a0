"""Clusters of features that probably show one identity, without labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.core.blocks import Tiling, as_rows
from pipeline.core.clusters.dbscan import dbscan
from pipeline.core.clusters.encoding import (
    CameraEncoding,
    PlainEncoding,
    encode,
    encode_by_camera,
)
from pipeline.core.clusters.jaccard import jaccard_pairs
from pipeline.core.clusters.stability import EpsGrid, choose_eps
from pipeline.core.neighbors.by_camera import neighbors_by_camera
from pipeline.core.neighbors.pairs import neighbors
from pipeline.runs.arrays import Features, feature_rows, make_labels


def jaccard_clusters(
    features: Features,
    cameras: Sequence[Any] | NDArray[Any] | None = None,
    *,
    eps: float | EpsGrid = 0.6,
    min_samples: int = 4,
    must: ArrayLike = (),
    cannot: ArrayLike = (),
    encoding: PlainEncoding | CameraEncoding | None = None,
    normalize: bool = False,
    tiling: Tiling = Tiling(),
) -> NDArray[np.int64]:
    """The cluster int64 `[N]` of every row of `features` `[N, D]`, from 0; -1 is noise.

    DBSCAN on Jaccard distances of k-reciprocal encodings: two rows are near if their distance is at
    most `eps`, and a row with `min_samples` near rows (itself among them) is a core row. If `eps`
    is an `EpsGrid`, that of its eps is taken around which the number of clusters changes least.
    With `cameras` `[N]` (numbers, text, or None) the encoding is camera-aware (CA-Jaccard, CVPR
    2024), and without them that of Cluster-Contrast; `encoding` holds other sizes. Rows of each
    pair in `must` `[L, 2]` are put into one cluster, and those of each pair in `cannot` are kept
    apart.
    No N x N array exists: memory is that of the neighbors and of the near pairs.

    Rows must have length 1; with `normalize` they are scaled to it. Raise ValueError for other
    rows, for cameras that do not fit, and for links that contradict each other.

    >>> x = [[1, 0], [0.96, 0.28], [0, 1], [0.28, 0.96]]
    >>> jaccard_clusters(x, min_samples=2, encoding=PlainEncoding(k1=2, k2=1))
    array([0, 0, 1, 1])
    """
    rows = as_rows(feature_rows(features, "features", normalize))
    if encoding is None:
        encoding = PlainEncoding() if cameras is None else CameraEncoding()
    if isinstance(encoding, CameraEncoding):
        if cameras is None or len(cameras) != len(rows):
            given = "none" if cameras is None else len(cameras)
            raise ValueError(f"a camera is needed for each of {len(rows)} rows, and {given} given")
        (labels,) = make_labels((np.zeros(len(rows), np.int64), cameras))
        same, other = neighbors_by_camera(
            rows.read(0, len(rows)), labels.camera, *encoding.neighbors, tiling=tiling
        )
        weights = encode_by_camera(same, other, encoding, tiling=tiling)
    else:
        near = neighbors(rows, encoding.neighbors, tiling=tiling)
        weights = encode(rows, near, encoding, tiling=tiling)
    pairs = jaccard_pairs(weights, eps.highest if isinstance(eps, EpsGrid) else eps, tiling=tiling)
    if isinstance(eps, EpsGrid):
        pairs = pairs.within(choose_eps(pairs, min_samples, eps).eps)
    return dbscan(pairs, min_samples, must=np.asarray(must), cannot=np.asarray(cannot))
