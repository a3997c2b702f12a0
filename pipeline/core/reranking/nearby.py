"""Re-ranked distances of the rows around each query only: memory grows with these, not with Q x G.

A row that shares no weight with the query has J = 1, so its place follows from its similarity.
"""

import threading

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.products.kernels import pair_scores
from pipeline.core.reranking.distances import Reranked, inverted, pair_distances
from pipeline.core.reranking.reciprocal import SparseRows, stacked

_QUERIES_AT_ONCE = 64


def surroundings(
    reranked: Reranked, start: int = 0, stop: int | None = None, *, tiling: Tiling = Tiling()
) -> SparseRows:
    """Final distances of the queries `start` to `stop` (all) to the rows that share weight with
    them.

    `columns` of the result are gallery rows. The values equal those of `Reranked.distances` to the
    bit. Only the features of these rows are read.

    >>> from pipeline.core.blocks import ArrayRows, StackedRows
    >>> from pipeline.core.reranking.distances import Reranking, k_reciprocal
    >>> from pipeline.core.neighbors.topk import search
    >>> x = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    >>> union = StackedRows(ArrayRows(x[:1]), ArrayRows(x[1:]))
    >>> near = search(union, union, 1, self_offset=0)
    >>> found = surroundings(k_reciprocal(union, near, Reranking(k1=1, k2=1)))
    >>> found.columns, found.values.round(3)
    (array([0], dtype=int32), array([0.266], dtype=float32))
    """
    rows, settings = len(reranked.gallery), reranked.settings
    index = inverted(reranked.gallery_weights, 0, rows, reranked.width)
    reading, made = threading.Lock(), dict[int, SparseRows]()

    def gather(a: int, b: int) -> None:
        queries = reranked.query_weights
        starts, found = _sharing(
            queries.starts, queries.columns, a, b, index.starts, index.columns, rows
        )
        needed, place = np.unique(found, return_inverse=True)
        with reading:
            asked = reranked.queries.read(a, b)
            held = reranked.gallery.take(needed.astype(np.int64))
        owner = np.repeat(np.arange(b - a), np.diff(starts))
        values = pair_distances(
            pair_scores(asked, held, owner, place.astype(np.int64)),
            owner + a, found.astype(np.int64), *queries.arrays, *reranked.gallery_weights.arrays,
            reranked.greatest, settings.lam, settings.squared,
        )  # fmt: skip
        made[a] = SparseRows(starts, found, values)

    last = len(reranked.queries) if stop is None else stop
    with tiling.workers() as run:
        run(gather, blocks(last, _QUERIES_AT_ONCE, start))
    return stacked([made[a] for a in sorted(made)])


@njit(nogil=True, cache=True)
def _sharing(
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    start: int,
    stop: int,
    index_starts: NDArray[np.int64],
    index_rows: NDArray[np.int32],
    total: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """For each query, the rows of an index of `total` rows that share a column with it,
    ascending.
    """
    room = 0
    for entry in range(starts[start], starts[stop]):
        room += index_starts[columns[entry] + 1] - index_starts[columns[entry]]
    new_starts = np.zeros(stop - start + 1, np.int64)
    found = np.empty(room, np.int32)
    met = np.full(total, -1, np.int64)  # the last query that reached this row
    end = 0
    for i in range(start, stop):
        first = end
        for entry in range(starts[i], starts[i + 1]):
            for place in range(index_starts[columns[entry]], index_starts[columns[entry] + 1]):
                row = index_rows[place]
                if met[row] != i:
                    met[row] = i
                    found[end] = row
                    end += 1
        found[first:end].sort()
        new_starts[i - start + 1] = end
    return new_starts, found[:end].copy()
