"""k-reciprocal re-ranking on the sparse neighbor graph: memory grows with n x k, never with n x n.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding" (CVPR 2017); the
encoding V is that of `reciprocal`. For a query i and a gallery row j

    m     = sum over the columns c of min(V_ic, V_jc)
    J     = 1 - m / (2 - m)
    final = (1 - lam) J + lam D_ij,    D_ij = d_ij / (the greatest d_ix over all rows x)

with queries and gallery as one set. J is 1 except for the few rows that share a column with the
query, so similarity alone ranks all other rows. A final distance is defined to the bit: d comes
from `kernels.score`; the weights V and their shared sum m are float32, with columns ascending; all
other steps are float64 in the order written above; the result is rounded to float32 once.
"""

import threading
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import ChosenRows, FeatureRows, StackedRows, Tiling, blocks, on_lines
from pipeline.core.neighbors.farthest import least_scores
from pipeline.core.neighbors.topk import TopK
from pipeline.core.products.kernels import read_only
from pipeline.core.reranking.reciprocal import (
    SparseRows,
    distance,
    greatest_distances,
    mean_weights,
    weights,
)
from pipeline.core.reranking.score_grids import COLUMNS, MOST_ROWS, grid_height, score_grid
from pipeline.core.sweep import sweep

Variant = Literal["zhong", "torchreid"]

_QUERIES_AT_ONCE = 128
_CACHED = 16
"""Number of gallery rows that meet one pair of queries after another, so that they stay in the
first-level cache.
"""


@dataclass(frozen=True)
class Reranking:
    """The settings of re-ranking.

    `k1` is the number of neighbors from which a row's reciprocal set is made. `k2` is the number of
    rows (including the row itself) whose weights are averaged. `lam` is the share of the original
    distance. In `variant` zhong the distance d is squared Euclidean (reid-strong-baseline);
    torchreid (and layumi) square it once more.
    """

    k1: int = 20
    k2: int = 6
    lam: float = 0.3
    variant: Variant = "zhong"

    def __post_init__(self) -> None:
        if self.k1 < 1:
            raise ValueError(f"k1 must be at least 1, not {self.k1}")
        if self.k2 < 1:
            raise ValueError(f"k2 counts the row itself, so it must be at least 1, not {self.k2}")
        if not 0 <= self.lam <= 1:
            raise ValueError(f"lam must lie from 0 to 1, not {self.lam}")
        if self.variant not in ("zhong", "torchreid"):
            raise ValueError(f"variant must be zhong or torchreid, not {self.variant!r}")
        # numba would compile the kernels once more for an int.
        object.__setattr__(self, "lam", float(self.lam))

    @property
    def name(self) -> str:
        """The name of the figures."""
        return "k-reciprocal"

    @property
    def neighbors(self) -> int:
        """The number of neighbors of every row that re-ranking needs, without the row itself."""
        return max(self.k1, self.k2 - 1)

    @property
    def squared(self) -> bool:
        """Whether d is the square of the squared Euclidean distance."""
        return self.variant == "torchreid"


@dataclass(frozen=True)
class Reranked:
    """The encoded queries and gallery: all data that a final distance needs.

    `greatest` float64 `[Q]` is each query's greatest distance d to a row of the union. The weights
    have a column for each of the `width` columns that a query uses.
    """

    queries: FeatureRows
    gallery: FeatureRows
    settings: Reranking
    greatest: NDArray[np.float64]
    query_weights: SparseRows
    gallery_weights: SparseRows
    width: int

    def of_queries(self, chosen: NDArray[np.int64]) -> "Reranked":
        """The same data for the queries `chosen` `[P]` alone, in that order."""
        return replace(
            self,
            queries=ChosenRows(self.queries, chosen),
            greatest=self.greatest[chosen],
            query_weights=self.query_weights.take(chosen),
        )

    def distances(self, start: int, stop: int, *, tiling: Tiling = Tiling()) -> NDArray[np.float32]:
        """Final distances `[stop - start, G]` of the queries `start` to `stop`, in [0, 1].

        Every pair gets its `score`; the gallery is read once.
        """
        wanted = on_lines(self.queries.read(start, stop))
        out = np.empty((len(wanted), len(self.gallery)), np.float32)
        overlap, asked = Overlap(), np.arange(start, stop)
        settings, greatest = self.settings, self.greatest[start:stop]

        def read(first: int, last: int) -> NDArray[np.float32]:
            return on_lines(self.gallery.read(first, last))

        def enter(first: int, last: int, block: NDArray[np.float32]) -> _Block:
            index = inverted(self.gallery_weights, first, last, self.width)
            return _Block(block, index, out[:, first:last])

        def take(block: _Block, a: int, b: int) -> None:
            shared = overlap(self.query_weights, asked[a:b], block.shares, len(block.features))
            _fill_tile(
                shared, wanted[a:b], block.features, read_only(greatest[a:b]), settings.lam,
                settings.squared, block.out[a:b],
            )  # fmt: skip

        size = min(tiling.query_block, _QUERIES_AT_ONCE)
        passing = blocks(len(self.gallery), tiling.gallery_block)
        with tiling.workers() as run:
            sweep(passing, read, enter, (len(wanted), size), take, run)
        return out


class _Block(NamedTuple):
    """Rows of the gallery, their inverted weights (`shares`), and their columns of the result."""

    features: NDArray[np.float32]
    shares: SparseRows
    out: NDArray[np.float32]


def k_reciprocal(
    union: StackedRows,
    neighbors: TopK,
    settings: Reranking,
    *,
    least: NDArray[np.float32] | None = None,
    tiling: Tiling = Tiling(),
) -> Reranked:
    """Encode queries (the first rows of `union`) and gallery (the second) for re-ranking.

    `neighbors` holds, for each row of the union, its `settings.neighbors` best rows or more,
    without the row itself; if fewer exist, all. `least` float32 `[N]` is the result of
    `least_scores` for the union, if the caller has it already. Features must be unit vectors. Raise
    ValueError if the neighbors cannot come from such a search.

    >>> from pipeline.core.blocks import ArrayRows
    >>> from pipeline.core.neighbors.topk import search
    >>> x = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    >>> union = StackedRows(ArrayRows(x[:1]), ArrayRows(x[1:]))
    >>> settings = Reranking(k1=1, k2=1)
    >>> reranked = k_reciprocal(union, search(union, union, 1, self_offset=0), settings)
    >>> reranked.distances(0, 1).round(3)
    array([[0.266, 1.   ]], dtype=float32)
    """
    total, queries = len(union), len(union.parts[0])
    check_neighbors(neighbors, total, settings)
    if least is None:
        least = least_scores(union, tiling=tiling)
    if least.shape != (total,):
        raise ValueError(f"{len(least)} least scores do not go with {total} features")
    greatest = greatest_distances(least, settings.squared)
    own = weights(union, neighbors, greatest, settings.k1, settings.squared, tiling=tiling)
    every = np.arange(total, dtype=np.int32)
    of_queries = mean_weights(own, neighbors, settings.k2, every, part=(0, queries), tiling=tiling)
    places = used_columns(of_queries, total)
    of_gallery = mean_weights(
        own, neighbors, settings.k2, places, part=(queries, total), tiling=tiling
    )
    return encoded(union, settings, greatest, of_queries, places, of_gallery)


def used_columns(of_queries: SparseRows, total: int) -> NDArray[np.int32]:
    """The place of each of `total` columns among those that queries use; -1 for the others.

    A gallery row's weight in a column that no query uses is never compared.
    """
    used = np.unique(of_queries.columns)
    places = np.full(total, -1, np.int32)
    places[used] = np.arange(len(used))
    return places


def encoded(
    union: StackedRows,
    settings: Reranking,
    greatest: NDArray[np.float64],
    of_queries: SparseRows,
    places: NDArray[np.int32],
    of_gallery: SparseRows,
) -> Reranked:
    """Combine the intermediate results of `k_reciprocal`.

    These are the mean weights of the queries, with a column for each row of the union, and of the
    gallery, with a column for each of `places` (see `used_columns`).
    """
    queries, gallery = union.parts
    return Reranked(
        queries,
        gallery,
        settings,
        greatest[: len(queries)],
        SparseRows(of_queries.starts, places[of_queries.columns], of_queries.values),
        of_gallery,
        int(places.max(initial=-1)) + 1,
    )


def check_neighbors(neighbors: TopK, total: int, settings: Reranking) -> None:
    """Raise ValueError unless `neighbors` are as `k_reciprocal` needs them for `total` rows."""
    if len(neighbors) != total:
        raise ValueError(f"neighbors of {len(neighbors)} rows do not go with {total} features")
    if neighbors.rows.max(initial=-1) >= total:
        raise ValueError(f"a neighbor is row {neighbors.rows.max()}, of {total} rows")
    needed = min(settings.neighbors, total - 1)
    if neighbors.k < needed or (neighbors.rows[:, :needed] < 0).any():
        raise ValueError(
            f"k1={settings.k1} and k2={settings.k2} need {needed} neighbors of every row"
        )
    if (neighbors.rows == np.arange(total)[:, None]).any():
        raise ValueError("a row counts among its own neighbors: search with self_offset=0")


class Overlap(threading.local):
    """Compute tiles m `[N, M]` of the weight that queries share with the rows of an index.

    m is 0 for a pair that shares nothing. Each thread writes all its tiles into one buffer, so a
    tile is valid until the thread requests the next one.
    """

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.float32)

    def __call__(
        self, queries: SparseRows, asked: NDArray[np.int64], index: SparseRows, width: int
    ) -> NDArray[np.float32]:
        """The tile of the queries `asked` and the `width` rows of `index` (see `inverted`)."""
        if len(self._buffer) < len(asked) * width:
            self._buffer = np.empty(len(asked) * width, np.float32)
        tile = self._buffer[: len(asked) * width].reshape(len(asked), width)
        _share(*queries.arrays, asked, *index.arrays, tile)
        return tile


def inverted(rows: SparseRows, start: int, stop: int, width: int) -> SparseRows:
    """Transpose the rows `start` to `stop`: for each of the `width` columns, the rows that have
    it.
    """
    low, high = rows.starts[start], rows.starts[stop]
    columns = rows.columns[low:high]
    order = np.argsort(columns, kind="stable")
    holders = np.repeat(
        np.arange(stop - start, dtype=np.int32), np.diff(rows.starts[start : stop + 1])
    )
    starts = np.zeros(width + 1, np.int64)
    np.cumsum(np.bincount(columns, minlength=width), out=starts[1:])
    return SparseRows(starts, holders[order], rows.values[low:high][order])


@njit(nogil=True, inline="always")
def final_distance(
    score: np.float32, shared: np.float32, greatest: float, lam: float, squared: bool
) -> np.float32:
    """The final distance of a pair, as the module defines it. It never grows with the score."""
    m = np.float64(shared)
    # Most pairs share nothing; this saves a division for them.
    jaccard = max(0.0, 1.0 - m / (2.0 - m)) if m > 0 else 1.0
    share = distance(score, squared) / greatest if greatest > 0 else 0.0
    return np.float32((1.0 - lam) * jaccard + lam * share)


@njit(nogil=True, cache=True)
def pair_distances(
    scores: NDArray[np.float32],
    owner: NDArray[np.int64],
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    gallery_starts: NDArray[np.int64],
    gallery_columns: NDArray[np.int32],
    gallery_values: NDArray[np.float32],
    greatest: NDArray[np.float64],
    lam: float,
    squared: bool,
) -> NDArray[np.float32]:
    """Final distances `[P]` of pairs of a query (`owner`) and a gallery row with known `scores`.

    The weights of both sides are the arrays of `SparseRows.arrays`.
    """
    out = np.empty(scores.shape[0], np.float32)
    for p in range(scores.shape[0]):
        a, last_a = starts[owner[p]], starts[owner[p] + 1]
        b, last_b = gallery_starts[rows[p]], gallery_starts[rows[p] + 1]
        shared = np.float32(0)
        while a < last_a and b < last_b:
            if columns[a] == gallery_columns[b]:
                shared += min(values[a], gallery_values[b])
            step_a = columns[a] <= gallery_columns[b]
            step_b = columns[a] >= gallery_columns[b]
            a += step_a
            b += step_b
        out[p] = final_distance(scores[p], shared, greatest[owner[p]], lam, squared)
    return out


@njit(nogil=True, cache=True)
def _share(
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    asked: NDArray[np.int64],
    index_starts: NDArray[np.int64],
    index_rows: NDArray[np.int32],
    index_values: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Compute m of the queries `asked` with the rows of an index, columns ascending."""
    out[:] = 0
    for i in range(asked.shape[0]):
        for entry in range(starts[asked[i]], starts[asked[i] + 1]):
            column, value = columns[entry], values[entry]
            for place in range(index_starts[column], index_starts[column + 1]):
                out[i, index_rows[place]] += min(value, index_values[place])


@njit(nogil=True, cache=True, error_model="numpy")  # vectorizes only without a check
def _fill_tile(
    shared: NDArray[np.float32],
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    greatest: NDArray[np.float64],
    lam: float,
    squared: bool,
    out: NDArray[np.float32],
) -> None:
    """Write the final distances of all pairs, for a few gallery rows at a time, which stay in the
    cache.
    """
    scores = np.empty((MOST_ROWS, _CACHED), np.float32)
    nothing = np.float32(0)
    for first in range(0, gallery.shape[0], _CACHED):
        count = min(_CACHED, gallery.shape[0] - first)
        for i in range(0, queries.shape[0], grid_height()):
            for j in range(0, count, COLUMNS):
                score_grid(queries, i, gallery, first + j, scores, j)
            for r in range(i, min(i + grid_height(), queries.shape[0])):
                line, held = out[r, first : first + count], shared[r, first : first + count]
                # Most pairs share nothing; these are written as vectors.
                for c in range(count):
                    line[c] = final_distance(scores[r - i, c], nothing, greatest[r], lam, squared)
                for c in range(count):
                    if held[c] > 0:
                        near = scores[r - i, c]
                        line[c] = final_distance(near, held[c], greatest[r], lam, squared)
