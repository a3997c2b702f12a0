"""Find, for every row, the k best rows that travel times allow to be the same person: exact.

The rows of each camera are sorted by time. The rows that a query may meet are then a few runs of
consecutive rows, and only these are scored. The cost follows the number of allowed pairs.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.neighbors.heaps import push
from pipeline.core.neighbors.topk import TopK, best_first
from pipeline.core.products.kernels import row_scores_at, score_at
from pipeline.core.travel.times import Sightings, TravelTimes

_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Walkable:
    """A rule for which rows may be one person.

    `seen` `[N]` says where and when each row was seen, and `travel` holds the travel times between
    the cameras.
    """

    seen: Sightings
    travel: TravelTimes

    def __len__(self) -> int:
        return len(self.seen)

    def __getitem__(self, rows: slice) -> "Walkable":
        """The rule for a run of rows."""
        return Walkable(Sightings(self.seen.camera[rows], self.seen.time[rows]), self.travel)


def allowed_pairs(rows: Walkable) -> int:
    """Count the pairs of two different rows that can be one person."""
    itself = int(rows.travel.allow(rows.seen, rows.seen).sum())
    return (count_allowed(rows.seen, rows.seen, rows.travel) - itself) // 2


class _Held(NamedTuple):
    """Rows `[M]` sorted by camera and time; rows without a camera or a time are last."""

    features: NDArray[np.float32]
    numbers: NDArray[np.int64]
    times: NDArray[np.int64]
    starts: NDArray[np.int64]


def nearby(
    queries: NDArray[np.float32],
    asked: Sightings,
    rows: NDArray[np.float32],
    held: Sightings,
    travel: TravelTimes,
    k: int,
    *,
    first_query: int = 0,
    first_row: int = 0,
    known: TopK | None = None,
    tiling: Tiling = Tiling(),
) -> tuple[TopK, int]:
    """Find the `k` best of `rows` `[M, D]` that can be the person of each of `queries` `[Q, D]`.

    Return the lists and the number of scored pairs; ties go to the lower row. `asked` `[Q]` and
    `held` `[M]` say where and when queries and rows were seen, with the cameras of `travel`. A row
    or query without a camera or a time can be anybody. Rows and queries are numbered from
    `first_row` and `first_query`; a row with a query's number is the query itself, and is left out.
    The `known` lists `[Q]`, of other rows, compete with the rows. ValueError if queries and rows
    have different dimensions.

    >>> x = np.array([[1, 0], [1, 0], [0.8, 0.6]], np.float32)
    >>> seen = Sightings(np.array([0, 1, 1]), np.array([0, 5_000_000, 40_000_000]))
    >>> two = TravelTimes(np.array([[0.0, 30], [30, 0]]), np.full((2, 2), np.inf))
    >>> found, scored = nearby(x, seen, x, seen, two, 1)
    >>> found.rows.ravel(), scored
    (array([2, 2, 0]), 4)
    """
    if queries.shape[1:] != rows.shape[1:]:
        raise ValueError(f"queries {queries.shape} and rows {rows.shape} do not compare")
    scores, found = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1)
    if known is not None:
        # Worst first, a sorted row is a heap.
        kept = min(k, known.k)
        scores[:, k - kept :] = known.scores[:, :kept][:, ::-1]
        found[:, k - kept :] = known.rows[:, :kept][:, ::-1]
    camera = np.where(held.is_known, held.camera, len(travel))
    order = np.lexsort((held.time, camera))
    by_time = _Held(
        np.ascontiguousarray(rows[order]),
        order + first_row,
        held.time[order],
        np.searchsorted(camera[order], np.arange(len(travel) + 2)),
    )
    least, most = travel.limits()
    cameras = np.where(asked.is_known, asked.camera, -1)
    features = np.ascontiguousarray(queries)
    scored = np.zeros(len(queries), np.int64)

    def work(start: int, stop: int) -> None:
        _search(
            features, cameras, asked.time, first_query, by_time, least, most, scores, found,
            scored, start, stop,
        )  # fmt: skip

    with tiling.workers() as run:
        run(work, blocks(len(queries), _ROWS_AT_ONCE))
    return best_first(scores, found, k), int(scored.sum())


def count_allowed(asked: Sightings, held: Sightings, travel: TravelTimes) -> int:
    """Count the pairs of `asked` and `held` that can be one person, without scoring them.

    >>> seen = Sightings(np.array([0, 1, 1]), np.array([0, 5_000_000, 40_000_000]))
    >>> two = TravelTimes(np.array([[0.0, 30], [30, 0]]), np.full((2, 2), np.inf))
    >>> count_allowed(seen, seen, two)  # with itself, too
    7
    """
    camera = np.where(held.is_known, held.camera, len(travel))
    order = np.lexsort((held.time, camera))
    starts = np.searchsorted(camera[order], np.arange(len(travel) + 2))
    least, most = travel.limits()
    cameras = np.where(asked.is_known, asked.camera, -1)
    return int(_count(cameras, asked.time, held.time[order], starts, least, most))


@njit(nogil=True, cache=True)
def _runs(
    own: int,
    time: int,
    other: int,
    times: NDArray[np.int64],
    starts: NDArray[np.int64],
    least: NDArray[np.int64],
    most: NDArray[np.int64],
) -> tuple[int, int, int, int]:
    """The two runs of places of a camera's rows that a sighting may meet, as it came from there and
    as it goes there; one, where they overlap.
    """
    start, stop = starts[other], starts[other + 1]
    seen = times[start:stop]
    low = np.searchsorted(seen, time - most[other, own], "left")
    high = np.searchsorted(seen, time - least[other, own], "right")
    then = np.searchsorted(seen, time + least[own, other], "left")
    end = np.searchsorted(seen, time + most[own, other], "right")
    if low >= high:
        low = high = 0
    if then >= end:
        then = end = high
    if then < high and low < end:  # they overlap: one run
        low, high = min(low, then), max(high, end)
        then = end = high
    return start + low, start + high, start + then, start + end


@njit(nogil=True, cache=True)
def _count(
    cameras: NDArray[np.int64],
    asked: NDArray[np.int64],
    times: NDArray[np.int64],
    starts: NDArray[np.int64],
    least: NDArray[np.int64],
    most: NDArray[np.int64],
) -> int:
    total = 0
    unknown = starts[-1] - starts[-2]
    for i in range(cameras.shape[0]):
        if cameras[i] < 0:
            total += times.shape[0]
            continue
        total += unknown
        for other in range(starts.shape[0] - 2):
            low, high, then, end = _runs(cameras[i], asked[i], other, times, starts, least, most)
            total += high - low + end - then
    return total


@njit(nogil=True, cache=True)
def _search(
    queries: NDArray[np.float32],
    cameras: NDArray[np.int64],
    asked: NDArray[np.int64],
    first_query: int,
    held: _Held,
    least: NDArray[np.int64],
    most: NDArray[np.int64],
    scores: NDArray[np.float32],
    found: NDArray[np.int64],
    scored: NDArray[np.int64],
    start: int,
    stop: int,
) -> None:
    """Offer the queries `start` to `stop` the rows that they may meet."""
    starts = held.starts
    for i in range(start, stop):
        own = cameras[i]
        if own < 0:
            scored[i] += _offer(queries, i, first_query, held, 0, starts[-1], scores, found)
            continue
        for other in range(starts.shape[0] - 2):
            low, high, then, end = _runs(own, asked[i], other, held.times, starts, least, most)
            scored[i] += _offer(queries, i, first_query, held, low, high, scores, found)
            scored[i] += _offer(queries, i, first_query, held, then, end, scores, found)
        scored[i] += _offer(queries, i, first_query, held, starts[-2], starts[-1], scores, found)


@njit(nogil=True, cache=True)
def _offer(
    queries: NDArray[np.float32],
    i: int,
    first_query: int,
    held: _Held,
    low: int,
    high: int,
    scores: NDArray[np.float32],
    found: NDArray[np.int64],
) -> int:
    """Offer a query the held rows `low` to `high`, but itself; gives how many were scored."""
    dimension = queries.shape[1]
    size = 4 * dimension
    row, there = queries.ctypes.data + size * i, held.features.ctypes.data
    exact = np.empty(4, np.float32)
    itself = 0
    for place in range(low, high, 4):
        count = min(4, high - place)
        address = there + size * place
        if count == 4:
            exact[0], exact[1], exact[2], exact[3] = row_scores_at(
                row, address, address + size, address + 2 * size, address + 3 * size, dimension
            )
        else:
            for each in range(count):
                exact[each] = score_at(row, address + size * each, dimension)
        for each in range(count):
            number = held.numbers[place + each]
            if number == first_query + i:
                itself += 1
            elif exact[each] >= scores[i, 0]:
                push(scores[i], found[i], exact[each], number)
    return max(0, high - low) - itself
