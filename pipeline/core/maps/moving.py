"""The points of a map, moved step by step until near rows are near and others are not.

This is the optimization of UMAP (see `fuzzy`; section 4.2 of the paper): gradient descent on the
cross entropy between the weights w_ij of the rows and the nearness of their points, with sampled
pairs. With y as points, d = |y_i - y_j|, and a and b of `NearnessCurve`, neighbors pull and random
rows push by

    pull   -2 a b d^(2 (b - 1)) / (1 + a d^(2 b)) (y_i - y_j)
    push    2 b / ((0.001 + d^2) (1 + a d^(2 b))) (y_i - y_j)

where each coordinate is at most 4, times a rate that falls from 1 to 0. In one epoch a pair of
weight w pulls each of its rows 2 w / max(w) times, and each row is pushed by `negatives` rows for
each two pulls.

UMAP moves one pair after the other. Here every row sums the pulls and pushes of one step, and then
all rows move at once; so a row is only written by its own thread, and the points are equal to the
bit for any number of threads. An epoch has four steps, each with its share of the pulls, because
with fewer steps points overshoot more, and maps become worse. For the same reason, a row that is
pulled more than 16 times in a step (one that is a neighbor of very many) moves by 16 times the mean
of its pulls, and its pushes shrink by the same factor. What happens in a step follows from
its number and the seed alone.

Powers would take a third of the time. So the factors of pulls and pushes are read from a table over
d^2, which is linear between 64 values an octave: the relative error is below 0.0002.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import Run, blocks
from pipeline.core.maps.curve import NearnessCurve
from pipeline.core.maps.settings import MapSettings
from pipeline.core.reranking.reciprocal import SparseRows

STEPS_AN_EPOCH = 4
_SMALLEST_BLOCK = 4096
_BLOCKS_A_THREAD = 4
_MOST = np.float32(4)
_MOST_PULLS = np.float32(16)
_STEP = np.uint64(0x9E3779B97F4A7C15)
# The table has squares from 2^-40 to 2^40, and 2^6 values an octave. So the upper bits of a
# float32, its exponent and 6 bits of its fraction, count the values.
_OCTAVES, _STEP_BITS = 40, 6
_FIRST = np.int32((127 - _OCTAVES) << _STEP_BITS)
_BELOW = np.int32(23 - _STEP_BITS)
_REST = np.int32((1 << (23 - _STEP_BITS)) - 1)
_REST_UNIT = np.float32(2.0 ** -(23 - _STEP_BITS))


@dataclass(frozen=True)
class Pulls:
    """The pairs that pull, `starts` int64 `[N + 1]` and `columns` int32 `[E]` as in `SparseRows`.

    A pair pulls `rates` float32 `[E]` times in a step, and has pulled `phases` float32 `[E]` times,
    from 0 to below 1, before the first. A row is pushed `push_rates` float64 `[N]` times in a step.
    `factors` float32 `[2, T]` is the table of the factors of pulls and pushes.
    """

    starts: NDArray[np.int64]
    columns: NDArray[np.int32]
    rates: NDArray[np.float32]
    phases: NDArray[np.float32]
    push_rates: NDArray[np.float64]
    factors: NDArray[np.float32]
    steps: int
    seed: int

    @classmethod
    def of(cls, weights: SparseRows, settings: MapSettings) -> "Pulls":
        """The pulls of the symmetric `weights` of N rows; pairs that pull less than twice are left
        out.
        """
        epochs = settings.epochs_for(len(weights))
        most = weights.values.max(initial=0)
        kept = weights.values * np.float32(epochs) >= most
        starts = np.append(0, np.cumsum(kept))[weights.starts]
        columns = weights.columns[kept]
        rates = weights.values[kept] / np.float32(most * STEPS_AN_EPOCH / 2)
        phases, push_rates = np.empty(len(rates), np.float32), np.empty(len(weights), np.float64)
        _schedule(starts, columns, rates, np.uint64(settings.seed), phases, push_rates)
        push_rates *= settings.negatives / 2
        return cls(
            starts,
            columns,
            rates,
            phases,
            push_rates,
            _table_of_factors(NearnessCurve.fitted(settings.min_dist, settings.spread)),
            epochs * STEPS_AN_EPOCH,
            settings.seed,
        )

    def __len__(self) -> int:
        return len(self.push_rates)


def move_points(
    points: NDArray[np.float32],
    pulls: Pulls,
    part: tuple[int, int],
    run: Run,
    threads: int,
) -> NDArray[np.float32]:
    """The points float32 `[N, 2]` after the steps `part` (from, to) of `pulls.steps`.

    The steps may be made in several calls. `run` works on `threads` threads.
    """
    now, then = np.array(points, np.float32, order="C"), np.empty_like(points, order="C")
    size = max(_SMALLEST_BLOCK, -(-len(pulls) // (_BLOCKS_A_THREAD * threads)))
    for step in range(*part):
        _make_step(pulls, now, then, step, run, size)
        now, then = then, now
    return now


def _make_step(
    pulls: Pulls,
    now: NDArray[np.float32],
    then: NDArray[np.float32],
    step: int,
    run: Run,
    size: int,
) -> None:
    """Write the points after one step to `then`, in blocks of `size` rows."""
    rate = np.float32(1 - step / pulls.steps)

    def work(start: int, stop: int) -> None:
        _move(
            pulls.starts, pulls.columns, pulls.rates, pulls.phases, pulls.push_rates, now, then,
            pulls.factors[0], pulls.factors[1], rate, step, np.uint64(pulls.seed), start, stop,
        )  # fmt: skip

    run(work, blocks(len(pulls), size))


def _table_of_factors(curve: NearnessCurve) -> NDArray[np.float32]:
    """The factors `[2, T]` of (y_i - y_j) in pulls and pushes, for ascending squares of d."""
    octaves = 2.0 ** np.arange(-_OCTAVES, _OCTAVES)
    within = 1 + np.arange(2**_STEP_BITS) / 2**_STEP_BITS
    squares = np.append(np.outer(octaves, within), 2.0**_OCTAVES)
    near = 1 + curve.a * squares**curve.b
    pulls = -2 * curve.a * curve.b * squares ** (curve.b - 1) / near
    pushes = 2 * curve.b / ((0.001 + squares) * near)
    return np.stack([pulls, pushes]).astype(np.float32)


@njit(nogil=True, inline="always")
def _factor(square: np.float32, table: NDArray[np.float32]) -> np.float32:
    """The value of a table of factors at a square; the first or last value beyond its ends."""
    bits = np.float32(square).view(np.int32)
    place = (bits >> _BELOW) - _FIRST
    if place < 0:
        return table[0]
    if place >= table.shape[0] - 1:
        return table[-1]
    rest = np.float32(bits & _REST) * _REST_UNIT
    return table[place] + rest * (table[place + 1] - table[place])


@njit(nogil=True, inline="always")
def _mixed(state: np.uint64) -> np.uint64:
    """The output step of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@njit(nogil=True, inline="always")
def _share(bits: np.uint64) -> np.float32:
    """A number from 0 to below 1, from the upper 24 bits."""
    return np.float32(bits >> np.uint64(40)) * np.float32(2.0**-24)


@njit(nogil=True, inline="always")
def _at_most(value: np.float32) -> np.float32:
    return min(_MOST, max(-_MOST, value))


@njit(nogil=True, cache=True)
def _schedule(
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    rates: NDArray[np.float32],
    seed: np.uint64,
    phases: NDArray[np.float32],
    totals: NDArray[np.float64],
) -> None:
    """Write the phase of each pair, the same for both of its rows, and the sum of a row's rates."""
    for i in range(totals.shape[0]):
        totals[i] = 0.0
        for e in range(starts[i], starts[i + 1]):
            low, high = np.uint64(min(i, columns[e])), np.uint64(max(i, columns[e]))
            phases[e] = _share(_mixed(_mixed(seed * _STEP + low) + high))
            totals[i] += rates[e]


@njit(nogil=True, cache=True, error_model="numpy")
def _move(
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    rates: NDArray[np.float32],
    phases: NDArray[np.float32],
    push_rates: NDArray[np.float64],
    now: NDArray[np.float32],
    then: NDArray[np.float32],
    pull_factors: NDArray[np.float32],
    push_factors: NDArray[np.float32],
    rate: np.float32,
    step: int,
    seed: np.uint64,
    start: int,
    stop: int,
) -> None:
    """Write the points of the rows `start` to `stop` after a step."""
    one = np.float32(1)
    count = np.uint64(now.shape[0])
    before, after = np.float32(step), np.float32(step + 1)
    for i in range(start, stop):
        x, y = now[i, 0], now[i, 1]
        sum_x, sum_y, pulls = np.float32(0), np.float32(0), 0
        for e in range(starts[i], starts[i + 1]):
            times = int(rates[e] * after + phases[e]) - int(rates[e] * before + phases[e])
            if times == 0:
                continue
            pulls += times
            j = columns[e]
            dx, dy = x - now[j, 0], y - now[j, 1]
            factor = _factor(dx * dx + dy * dy, pull_factors)
            sum_x += np.float32(times) * _at_most(factor * dx)
            sum_y += np.float32(times) * _at_most(factor * dy)
        state = _mixed(_mixed(seed * _STEP + np.uint64(step)) + np.uint64(i))
        for _ in range(int(push_rates[i] + _share(state))):  # rounded up or down by chance
            state += _STEP
            j = int(((_mixed(state) >> np.uint64(32)) * count) >> np.uint64(32))
            dx, dy = x - now[j, 0], y - now[j, 1]
            factor = _factor(dx * dx + dy * dy, push_factors)
            sum_x += _at_most(factor * dx)  # 0 for the row itself
            sum_y += _at_most(factor * dy)
        own = rate * min(one, _MOST_PULLS / max(one, np.float32(pulls)))
        then[i, 0], then[i, 1] = x + own * sum_x, y + own * sum_y
