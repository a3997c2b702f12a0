"""Rows as weights over their k-reciprocal neighbors: the sparse vectors of the Jaccard distance.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding" (CVPR 2017). With
N(i, k) as row i itself and its k best neighbors:

    R(i, k) = {j in N(i, k): i in N(j, k)}
    R*(i)   = R(i, k1), plus R(j, round(k1 / 2)) for every j in it of which more than two thirds lie
              in R(i, k1); halves are rounded to even
    V_ij    = exp(-D_ij) on R*(i), over its sum; D_ij = d_ij / (the greatest d_ix over all rows x)

V has some tens of values per row, whatever the number of rows.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, blocks
from pipeline.core.neighbors.topk import TopK
from pipeline.core.products.kernels import pair_scores, read_only

_ENTRIES_AT_ONCE = 2**20


@dataclass(frozen=True)
class SparseRows:
    """A sparse matrix with few values per row; row i is the entries `starts[i]` to `starts[i + 1]`.

    `starts` int64 `[N + 1]`, `columns` int32 `[E]` ascending within a row, `values` float32 `[E]`.
    """

    starts: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]

    @property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Starts, columns and values, read-only."""
        return read_only(self.starts), read_only(self.columns), read_only(self.values)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, rows: NDArray[np.int64]) -> "SparseRows":
        """The rows at `rows` `[P]`, in that order."""
        sizes = np.diff(self.starts)[rows]
        starts = np.append(0, np.cumsum(sizes))
        entries = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], sizes)
        return SparseRows(starts, self.columns[entries], self.values[entries])


def stacked(parts: Sequence[SparseRows]) -> SparseRows:
    """The rows of all `parts`, in order."""
    ends = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.starts) for part in parts)])
    return SparseRows(
        np.cumsum(ends),
        np.concatenate([np.empty(0, np.int32), *(part.columns for part in parts)]),
        np.concatenate([np.empty(0, np.float32), *(part.values for part in parts)]),
    )


@njit(nogil=True, inline="always")
def distance(score: np.float32, squared: bool) -> float:
    """d of a pair of unit vectors with similarity `score`, in float64.

    The squared Euclidean distance 2 - 2 s, not below 0; with `squared` its square.
    """
    near = max(0.0, 2.0 - 2.0 * np.float64(score))
    return near * near if squared else near


@njit(nogil=True, cache=True)
def greatest_distances(least_scores: NDArray[np.float32], squared: bool) -> NDArray[np.float64]:
    """The greatest d `[N]` of every row, from its least score with another row; d to itself is
    0.
    """
    out = np.empty(least_scores.shape[0], np.float64)
    for i in range(out.shape[0]):
        out[i] = distance(least_scores[i], squared)
    return out


def weights(
    rows: FeatureRows,
    neighbors: TopK,
    greatest: NDArray[np.float64],
    k1: int,
    squared: bool,
    *,
    half: int | None = None,
    part: tuple[int, int] | None = None,
    tiling: Tiling = Tiling(),
) -> SparseRows:
    """Compute V of the rows `part` (all by default), with a column for each of the N rows.

    `neighbors` are the k1 best neighbors or more of all N `rows` `[N, D]` among themselves, without
    the row itself, with the scores of `kernels.score`. `greatest` float64 `[N]` is the greatest
    distance of each row. `half` is the size of the lists that expand R, if it is not half of `k1`.
    Features are read only for pairs that are not neighbors.
    """
    sizes_of_lists = (k1, round(k1 / 2) if half is None else half)
    near, half = (min(k, len(rows) - 1) for k in sizes_of_lists)
    room = max(1, min(len(rows), (near + 1) * (half + 1)))
    reciprocal = np.empty((len(rows), half + 1), np.int32)
    sizes = np.empty(len(rows), np.int64)
    reading = threading.Lock()
    near_rows, near_scores = read_only(neighbors.rows), read_only(neighbors.scores)

    def encode(start: int, stop: int) -> SparseRows:
        starts, columns, scores = _expanded(
            near_rows, near_scores, near, reciprocal, sizes, start, stop, room
        )
        unknown = np.flatnonzero(np.isnan(scores))
        owners = np.searchsorted(starts, unknown, "right") - 1 + start
        pairs = np.concatenate([owners, columns[unknown]])
        needed, place = np.unique(pairs, return_inverse=True)
        with reading:
            features = rows.take(needed.astype(np.int64))
        scores[unknown] = pair_scores(
            features, features, place[: len(unknown)], place[len(unknown) :]
        )
        values = _normalized(starts, scores, read_only(greatest[start:stop]), squared)
        return SparseRows(starts, columns, values)

    size = max(1, _ENTRIES_AT_ONCE // room)
    with tiling.workers() as run:
        run(
            lambda a, b: _find_reciprocal(near_rows, half, a, b, reciprocal, sizes),
            blocks(len(rows), 8192),
        )
        return _joined(run, encode, part or (0, len(rows)), size)


def mean_weights(
    of_rows: SparseRows,
    neighbors: TopK,
    k2: int,
    places: NDArray[np.int32],
    *,
    part: tuple[int, int] | None = None,
    tiling: Tiling = Tiling(),
) -> SparseRows:
    """The mean of the weights of each row of `part` and of its k2 - 1 best neighbors.

    `of_rows` are the weights of all N rows. `places` int32 `[N]` renumbers the columns, in
    ascending order, and drops those with -1. Sums are float64, a row's own weights first.
    """
    return _averaged(of_rows, neighbors.rows, min(k2, len(of_rows)), places, part, tiling)


def mean_over(
    of_rows: SparseRows,
    lists: NDArray[np.int64],
    *,
    part: tuple[int, int] | None = None,
    tiling: Tiling = Tiling(),
) -> SparseRows:
    """The mean of the weights of each row of `part` and of those that its list `[N, K]` names.

    A list ends, or has gaps, where it is -1; the mean is over as many rows as there are. Sums are
    float64, a row's own weights first.
    """
    every = np.arange(len(of_rows), dtype=np.int32)
    return _averaged(of_rows, lists, lists.shape[1] + 1, every, part, tiling)


def _averaged(
    of_rows: SparseRows,
    lists: NDArray[np.int64],
    width: int,
    places: NDArray[np.int32],
    part: tuple[int, int] | None,
    tiling: Tiling,
) -> SparseRows:
    near, kept = read_only(lists), read_only(places)

    def average(start: int, stop: int) -> SparseRows:
        return SparseRows(*_means(*of_rows.arrays, near, width, kept, start, stop))

    with tiling.workers() as run:
        return _joined(run, average, part or (0, len(of_rows)), 4096)


def _joined(
    run: Callable[..., None],
    make: Callable[[int, int], SparseRows],
    part: tuple[int, int],
    size: int,
) -> SparseRows:
    """Make the rows `part` block by block on the threads of `run`, and join them in order."""
    made: dict[int, SparseRows] = {}
    run(lambda a, b: made.update({a: make(a, b)}), blocks(part[1], size, part[0]))
    return stacked([made.pop(start) for start in sorted(made)])


@njit(nogil=True, inline="always")
def is_among(row: int, neighbors: NDArray[np.int64], k: int) -> bool:
    """Whether a row is one of the first k `neighbors`."""
    for x in range(k):  # noqa: SIM110 - numba takes no generator
        if neighbors[x] == row:
            return True
    return False


@njit(nogil=True, cache=True)
def _find_reciprocal(
    neighbors: NDArray[np.int64],
    k: int,
    start: int,
    stop: int,
    out: NDArray[np.int32],
    sizes: NDArray[np.int64],
) -> None:
    """Write R(i, k) of the rows `start` to `stop`, row i itself first: `out[i, :sizes[i]]`."""
    for i in range(start, stop):
        out[i, 0] = i
        size = 1
        for x in range(k):
            j = neighbors[i, x]
            if is_among(i, neighbors[j], k):
                out[i, size] = j
                size += 1
        sizes[i] = size


@njit(nogil=True, cache=True)
def _expanded(
    neighbors: NDArray[np.int64],
    neighbor_scores: NDArray[np.float32],
    k: int,
    reciprocal: NDArray[np.int32],
    sizes: NDArray[np.int64],
    start: int,
    stop: int,
    room: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """R* of the rows `start` to `stop`: starts, members in ascending order, and their scores.

    The score is inf for the row itself, which makes its distance 0, and NaN for members that are
    not its neighbors. `room` is the greatest number of members of a row.
    """
    starts = np.zeros(stop - start + 1, np.int64)
    members = np.empty((stop - start) * room, np.int32)
    scores = np.empty((stop - start) * room, np.float32)
    own = np.empty(k + 1, np.int32)
    in_own = np.full(neighbors.shape[0], -1, np.int32)  # the last row whose R has this one
    taken = np.full(neighbors.shape[0], -1, np.int32)  # the last row whose R* has this one
    end = 0
    for i in range(start, stop):
        first = end
        own[0] = i
        size = 1
        for x in range(k):
            j = neighbors[i, x]
            if is_among(i, neighbors[j], k):
                own[size] = j
                size += 1
        for x in range(size):
            in_own[own[x]] = i
            taken[own[x]] = i
            members[end] = own[x]
            end += 1
        for x in range(size):
            theirs = reciprocal[own[x], : sizes[own[x]]]
            shared = 0
            for member in theirs:
                shared += in_own[member] == i
            if 3 * shared > 2 * theirs.shape[0]:
                for member in theirs:
                    if taken[member] != i:
                        taken[member] = i
                        members[end] = member
                        end += 1
        members[first:end].sort()  # in place: to assign a slice takes seconds to compile
        for entry in range(first, end):
            scores[entry] = np.inf if members[entry] == i else np.nan
        for x in range(neighbors.shape[1]):
            j = neighbors[i, x]
            if j >= 0 and taken[j] == i:
                place = first + np.searchsorted(members[first:end], j)
                scores[place] = neighbor_scores[i, x]
        starts[i - start + 1] = end
    return starts, members[:end].copy(), scores[:end].copy()


@njit(nogil=True, cache=True)
def _normalized(
    starts: NDArray[np.int64],
    scores: NDArray[np.float32],
    greatest: NDArray[np.float64],
    squared: bool,
) -> NDArray[np.float32]:
    """exp(-D) over its sum in each row: float64 in the order of the columns, rounded at the end."""
    raw = np.empty(scores.shape[0], np.float64)
    out = np.empty(scores.shape[0], np.float32)
    for i in range(greatest.shape[0]):
        total = 0.0
        for entry in range(starts[i], starts[i + 1]):
            d = distance(scores[entry], squared)
            # If all rows are equal, d is 0 and so is the greatest d.
            raw[entry] = math.exp(-d / greatest[i]) if greatest[i] > 0 else 1.0
            total += raw[entry]
        for entry in range(starts[i], starts[i + 1]):
            out[entry] = np.float32(raw[entry] / total)
    return out


@njit(nogil=True, cache=True)
def _means(
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    neighbors: NDArray[np.int64],
    width: int,
    places: NDArray[np.int32],
    start: int,
    stop: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """The mean of each row's own weights and those of its `width - 1` first neighbors.

    A neighbor -1 is none.
    """
    room = 0
    for i in range(start, stop):
        for x in range(width):
            j = i if x == 0 else neighbors[i, x - 1]
            if j >= 0:
                room += starts[j + 1] - starts[j]
    new_starts = np.zeros(stop - start + 1, np.int64)
    new_columns = np.empty(room, np.int32)
    new_values = np.empty(room, np.float32)
    total = np.zeros(places.shape[0], np.float64)
    end = 0
    for i in range(start, stop):
        first, averaged = end, 0
        for x in range(width):
            j = i if x == 0 else neighbors[i, x - 1]
            if j < 0:
                continue
            averaged += 1
            for entry in range(starts[j], starts[j + 1]):
                place = places[columns[entry]]
                if place < 0:
                    continue
                if total[place] == 0:  # weights are positive, so this column is new
                    new_columns[end] = place
                    end += 1
                total[place] += values[entry]
        new_columns[first:end].sort()
        for entry in range(first, end):
            new_values[entry] = np.float32(total[new_columns[entry]] / averaged)
            total[new_columns[entry]] = 0
        new_starts[i - start + 1] = end
    return new_starts, new_columns[:end].copy(), new_values[:end].copy()
