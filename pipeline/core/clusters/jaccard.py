"""Pairs of rows whose Jaccard distance is at most a limit below 1, without an N x N array.

With the sparse weights V of `encoding`, whose rows sum to 1:

    J_ij = 1 - m / (2 - m),  m = sum over g of min(V_ig, V_jg)

J <= eps holds exactly where m >= 2 (1 - eps) / (2 - eps). The sums m of a row with all others come
from its columns: every column adds its share to the rows that hold it. This costs as much as the
columns are long, so hubs, the columns that very many rows hold, would cost the most. They need not
be visited (prefix filter: Bayardo et al., "Scaling up all pairs similarity search", WWW 2007): a
row skips its longest columns for as long as they sum to less than the m that is needed. A row that
shares only these cannot be near enough; one that shares others gets its share of the skipped ones
only if it may still be near enough with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.reranking.distances import inverted
from pipeline.core.reranking.reciprocal import SparseRows

# Sums of V are off by less than this; a pair that is nearly near enough is still computed.
_SLACK = 1e-5
# A column that is so many times as long as the mean is a hub.
_HUB = 8.0
_ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class JaccardPairs:
    """The rows within reach of every row: `rows[starts[i]:starts[i + 1]]` are those of row i.

    `starts` int64 `[N + 1]`; `rows` int32 `[P]`, ascending in each run, a row not among its own;
    `distances` float32 `[P]`. Each pair stands there from both of its ends.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    distances: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def within(self, eps: float) -> "JaccardPairs":
        """The pairs whose distance is at most `eps`."""
        kept = self.distances <= np.float32(eps)
        ends = np.append(0, np.cumsum(kept))[self.starts]
        return JaccardPairs(ends, self.rows[kept], self.distances[kept])

    @classmethod
    def joined(cls, parts: Sequence["LaterRows"]) -> "JaccardPairs":
        """The pairs of consecutive runs of rows, from the first row to the last."""
        whole = LaterRows.stacked(parts)
        return cls(*_both_ways(whole.counts, whole.rows, whole.distances))


def jaccard_pairs(weights: SparseRows, eps: float, *, tiling: Tiling = Tiling()) -> JaccardPairs:
    """All pairs of the N rows of `weights` whose Jaccard distance is at most `eps`: exact.

    Sums are float64 in the order of the columns, distances are rounded to float32. Rows of
    `weights` are positive and sum to 1, and its columns ascend. Memory is that of the weights and
    of the pairs. ValueError if `eps` does not lie from 0 to below 1.

    >>> v = SparseRows(np.array([0, 2, 4, 5]), np.array([0, 1, 0, 1, 2], np.int32),
    ...                np.array([0.5, 0.5, 0.25, 0.75, 1], np.float32))
    >>> found = jaccard_pairs(v, 0.6)
    >>> found.starts, found.rows, found.distances
    (array([0, 1, 2, 2]), array([1, 0], dtype=int32), array([0.4, 0.4], dtype=float32))
    """
    search = PairSearch.of(weights, eps)
    return JaccardPairs.joined([search.later_rows(0, len(weights), tiling=tiling)])


@dataclass(frozen=True)
class LaterRows:
    """Pairs that stand at their lower row only, for a run of rows.

    `counts` int64 `[B]` is how many later rows are within reach of each; `rows` int32 `[P]` are
    these, ascending for each row, and `distances` float32 `[P]`.
    """

    counts: NDArray[np.int64]
    rows: NDArray[np.int32]
    distances: NDArray[np.float32]

    @classmethod
    def stacked(cls, parts: Sequence["LaterRows"]) -> "LaterRows":
        """Those of all `parts`, in order."""
        return cls(
            np.concatenate([np.empty(0, np.int64), *(part.counts for part in parts)]),
            np.concatenate([np.empty(0, np.int32), *(part.rows for part in parts)]),
            np.concatenate([np.empty(0, np.float32), *(part.distances for part in parts)]),
        )


@dataclass(frozen=True)
class PairSearch:
    """The `weights` of N rows with the index of their columns, to find the pairs within `eps`.

    Any run of rows can be searched by itself; the pairs are the same, to the bit.
    """

    weights: SparseRows
    index: SparseRows
    eps: float

    @classmethod
    def of(cls, weights: SparseRows, eps: float) -> "PairSearch":
        """The index of all rows. ValueError if `eps` does not lie from 0 to below 1."""
        if not 0 <= eps < 1:
            raise ValueError(f"eps must be 0 or more and less than 1, not {eps}")
        return cls(weights, inverted(weights, 0, len(weights), len(weights)), eps)

    def later_rows(self, start: int, stop: int, *, tiling: Tiling = Tiling()) -> LaterRows:
        """The later rows within reach of each of the rows `start` to `stop`."""
        least = 2 * (1 - self.eps) / (2 - self.eps) - _SLACK
        entries, columns = len(self.index.columns), len(self.index)
        longest = max(1, int(_HUB * entries / columns)) if columns else 0
        found: dict[int, LaterRows] = {}

        def compare(first: int, last: int) -> None:
            found[first] = LaterRows(
                *_compare(
                    *self.weights.arrays, *self.index.arrays, first, last, longest, least,
                    np.float32(self.eps),
                )
            )  # fmt: skip

        with tiling.workers() as run:
            run(compare, blocks(stop, _ROWS_AT_ONCE, start))
        return LaterRows.stacked([found.pop(first) for first in sorted(found)])


@njit(nogil=True, cache=True)
def _skip(
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    column_starts: NDArray[np.int64],
    longest: int,
    least: float,
    skipped: NDArray[np.bool_],
) -> float:
    """Mark the hubs of a row that need not be visited, the longest first; returns their sum."""
    lengths = column_starts[columns + 1] - column_starts[columns]
    total = 0.0
    for entry in np.argsort(-lengths):
        if lengths[entry] <= longest or total + values[entry] >= least:
            break
        total += values[entry]
        skipped[entry] = True
    return total


@njit(nogil=True, cache=True)
def _compare(
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    column_starts: NDArray[np.int64],
    column_rows: NDArray[np.int32],
    column_values: NDArray[np.float32],
    start: int,
    stop: int,
    longest: int,
    least: float,
    eps: np.float32,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """For the rows `start` to `stop`, the later rows within `eps`: counts, rows and distances."""
    n = starts.shape[0] - 1
    counts = np.zeros(stop - start, np.int64)
    rows = np.empty(64 * (stop - start), np.int32)
    distances = np.empty(64 * (stop - start), np.float32)
    end = 0
    shared = np.zeros(n, np.float64)  # m of row i with each later row, as far as it is known
    met = np.empty(n, np.int32)
    skipped = np.zeros(n, np.bool_)
    for i in range(start, stop):
        first, last = starts[i], starts[i + 1]
        own, own_values = columns[first:last], values[first:last]
        skipped[: last - first] = False
        left_out = _skip(own, own_values, column_starts, longest, least, skipped)
        size = 0
        for entry in range(last - first):
            if skipped[entry]:
                continue
            column, value = own[entry], own_values[entry]
            for place in range(column_starts[column + 1] - 1, column_starts[column] - 1, -1):
                j = column_rows[place]
                if j <= i:
                    break
                if shared[j] == 0:  # weights are positive, so this row is new
                    met[size] = j
                    size += 1
                shared[j] += min(value, column_values[place])
        if end + size > rows.shape[0]:
            room = max(2 * rows.shape[0], end + size)
            rows = np.append(rows[:end], np.empty(room - end, np.int32))
            distances = np.append(distances[:end], np.empty(room - end, np.float32))
        first_found = end
        for place in range(size):
            j = met[place]
            m = shared[j]
            shared[j] = 0
            if m + left_out < least:
                continue
            if left_out > 0:
                m = _shared_by(own, own_values, columns, values, starts[j], starts[j + 1])
            distance = np.float32(max(0.0, 1.0 - m / (2.0 - m)))
            if distance <= eps:
                rows[end], distances[end] = j, distance
                end += 1
        order = np.argsort(rows[first_found:end])
        ordered, apart = rows[first_found:end][order], distances[first_found:end][order]
        for place in range(end - first_found):  # to assign a slice takes seconds to compile
            rows[first_found + place], distances[first_found + place] = ordered[place], apart[place]
        counts[i - start] = end - first_found
    return counts, rows[:end].copy(), distances[:end].copy()


@njit(nogil=True, cache=True)
def _shared_by(
    own: NDArray[np.int32],
    own_values: NDArray[np.float32],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    start: int,
    stop: int,
) -> float:
    """m of a row and the row of the entries `start` to `stop`: both in the order of the columns."""
    total = 0.0
    entry = 0
    for place in range(start, stop):
        while entry < own.shape[0] and own[entry] < columns[place]:
            entry += 1
        if entry == own.shape[0]:
            break
        if own[entry] == columns[place]:
            total += min(own_values[entry], values[place])
    return total


@njit(nogil=True, cache=True)
def _both_ways(
    counts: NDArray[np.int64], rows: NDArray[np.int32], distances: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Pairs that stand at their lower row only, at both of their rows."""
    n = counts.shape[0]
    starts = np.zeros(n + 1, np.int64)
    for i in range(n):
        starts[i + 1] += counts[i]
    for j in rows:
        starts[j + 1] += 1
    for i in range(n):
        starts[i + 1] += starts[i]
    ends = starts[:-1].copy()
    new_rows = np.empty(2 * rows.shape[0], np.int32)
    new_distances = np.empty(2 * rows.shape[0], np.float32)
    entry = 0
    # Row i comes before all later rows in their runs, so every run ascends.
    for i in range(n):
        for _ in range(counts[i]):
            j, distance = rows[entry], distances[entry]
            new_rows[ends[i]], new_distances[ends[i]] = j, distance
            new_rows[ends[j]], new_distances[ends[j]] = i, distance
            ends[i] += 1
            ends[j] += 1
            entry += 1
    return starts, new_rows, new_distances
