"""How far near points of a map are near rows: the figure by which maps are compared."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, as_rows, blocks
from pipeline.core.neighbors.heaps import push
from pipeline.core.products.kernels import score

_ROWS_AT_ONCE = 64


def trustworthiness(
    features: NDArray[np.float32] | FeatureRows,
    points: NDArray[np.float32],
    k: int = 15,
    *,
    rows: NDArray[np.int64] | None = None,
    tiling: Tiling = Tiling(),
) -> float:
    """The trustworthiness of a map, from 0 to 1; 1 if the `k` nearest points of each row are its k
    nearest rows.

    With N as the number of rows, U(i) as those of the k nearest points of row i that are not among
    its k nearest rows, and r(i, j) as the rank of row j among the others by its distance from row
    i, from 1:

        T(k) = 1 - 2 / (N k (2 N - 3 k - 1)) * sum over i, and over j in U(i), of r(i, j) - k

    (Venna and Kaski, "Neighborhood preservation in nonlinear projection methods: an experimental
    study", ICANN 2001.) `features` `[N, D]` are compared by cosine, so they have length 1, and
    `points` `[N, 2]` by their Euclidean distance; of equal ones the first row is nearest. With
    `rows` int64 `[S]`, the mean is over these rows only. Every distance is computed, and none is
    stored: time grows with S N D, and memory is that of the features. ValueError unless 0 < k < N /
    2, and for points that are not one for each row.

    >>> x = np.array([[1, 0], [0.96, 0.28], [0.6, 0.8], [0.28, 0.96], [0, 1]], np.float32)
    >>> trustworthiness(x, x, 1), round(trustworthiness(x, x[[0, 2, 1, 3, 4]], 1), 3)
    (1.0, 0.6)
    """
    held = as_rows(features)
    count = len(held)
    if points.shape != (count, 2):
        raise ValueError(f"points must be [{count}, 2], one for each row, not {points.shape}")
    if not 0 < k < count / 2:
        raise ValueError(f"k must be from 1 to below half of the {count} rows, not {k}")
    chosen = np.arange(count) if rows is None else np.asarray(rows, np.int64)
    whole, places = held.read(0, count), np.ascontiguousarray(points, np.float32)
    excess = np.zeros(len(chosen), np.int64)
    with tiling.workers() as run:
        run(
            lambda a, b: _excess(whole, places, chosen[a:b], k, excess[a:b]),
            blocks(len(chosen), _ROWS_AT_ONCE),
        )
    worst = len(chosen) * k * (2 * count - 3 * k - 1)
    return 1 - 2 * int(excess.sum()) / worst


@njit(nogil=True, cache=True)
def _excess(
    features: NDArray[np.float32],
    points: NDArray[np.float32],
    chosen: NDArray[np.int64],
    k: int,
    out: NDArray[np.int64],
) -> None:
    """Write the sum of r(i, j) - k over the k nearest points of each chosen row."""
    count = features.shape[0]
    scores = np.empty(count, np.float32)
    for s in range(chosen.shape[0]):
        i = chosen[s]
        nearness, near = np.full(k, -np.inf, np.float32), np.full(k, -1, np.int64)
        for j in range(count):
            scores[j] = score(features[i], features[j])
            if j != i:
                dx, dy = points[i, 0] - points[j, 0], points[i, 1] - points[j, 1]
                push(nearness, near, -(dx * dx + dy * dy), j)
        out[s] = 0
        for x in range(k):
            rank = 1
            for j in range(count):
                rank += j != i and (
                    scores[j] > scores[near[x]] or (scores[j] == scores[near[x]] and j < near[x])
                )
            out[s] += max(0, rank - k)
