"""A histogram of the similarities of all negative pairs, exact in chosen bins.

A negative is a pair of a query with an identity and a kept gallery row of another identity: junk is
excluded, distractors are included. Similarities are counted in steps of 2^-24, rounded down, which
is finer than the rounding of a float32 dot product; 2^11 steps make one bin. A product of two
blocks gives the bin of a pair, up to `product_slack`. This is enough to count pairs far from a
*settled* bin; a pair near a settled bin is placed by its `score`. So the number of negatives at and
above any step of a settled bin is exact and independent of the tiling, while most pairs cost only
one comparison of a product.
"""

import threading
from dataclasses import dataclass
from math import floor
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, as_rows, blocks
from pipeline.core.evaluation.labels import DISTRACTOR, JUNK, NO_CAMERA, Labels
from pipeline.core.float_products import Product
from pipeline.core.products.kernels import longest, product_slack, read_only
from pipeline.core.products.kernels import score as pair_score
from pipeline.core.sweep import sweep

STEPS = 2**24
"""Number of steps from similarity 0 to 1."""

BIN = 2**11
"""Number of steps in a bin."""

_LONGEST = 1.001  # the length of unit vectors after float16 and rounding, at most
_BELOW = STEPS // BIN + 64  # bins below similarity 0: down to -1, plus rounding
_BINS = 2 * _BELOW
_WIDTH = BIN / STEPS

EDGES = (np.arange(_BINS + 1) - _BELOW) * BIN
"""The least step of each bin, and that of the bin that would follow the last."""

_BLOCKS_AT_ONCE = 8
"""Number of gallery blocks in memory together if they are divided by camera."""

_PLACING = 2.0**-22  # the greatest rounding error of `_place`


@dataclass(frozen=True)
class Negatives:
    """Counts of negative pairs by similarity; `+` adds those of disjoint parts of a gallery.

    `coarse` int64 `[BINS]` holds the counts by bin, ascending. The counts of the bins `settled`
    int64 `[S]`, ascending, are exact, and so are the sums of all bins above each of them. `fine`
    int64 `[S, BIN]` holds the counts of their steps.
    """

    settled: NDArray[np.int64]
    coarse: NDArray[np.int64]
    fine: NDArray[np.int64]

    @classmethod
    def none(cls, settled: NDArray[np.int64]) -> "Negatives":
        """Counts of zero."""
        return cls(settled, np.zeros(_BINS, np.int64), np.zeros((len(settled), BIN), np.int64))

    def __add__(self, other: "Negatives") -> "Negatives":
        if not np.array_equal(self.settled, other.settled):
            raise ValueError("counts with different settled bins cannot be added")
        return Negatives(self.settled, self.coarse + other.coarse, self.fine + other.fine)

    def __len__(self) -> int:
        return int(self.coarse.sum())

    def above(self) -> NDArray[np.int64]:
        """The number of negatives `[BINS + 1]` in each bin or a higher one; 0 at the end."""
        return np.append(np.cumsum(self.coarse[::-1])[::-1], 0)

    def reached(self, bin_: int) -> NDArray[np.int64]:
        """The number of negatives `[BIN + 1]` that reach each step of a settled bin, and the bin
        after it.
        """
        place = int(np.searchsorted(self.settled, bin_))
        within = np.append(np.cumsum(self.fine[place][::-1])[::-1], 0)
        return within + self.coarse[bin_ + 1 :].sum()


def steps(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Convert similarities to whole steps, rounded down.

    >>> steps(np.array([1.0, 0.5, -2.0**-24 / 3], np.float32))
    array([16777216,  8388608,       -1])
    """
    return np.floor(scores.astype(np.float64) * STEPS).astype(np.int64)


def margin(dimension: int) -> int:
    """The number of bins by which a product of unit vectors may miss the bin of their score."""
    return floor((product_slack(dimension, _LONGEST, _LONGEST) + _PLACING) / _WIDTH) + 1


def count_negatives(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    settled: NDArray[np.int64],
    *,
    part: tuple[int, int] | None = None,
    tiling: Tiling = Tiling(),
) -> Negatives:
    """Count the negatives of queries with an identity, exactly in the bins `settled`.

    `part` limits the pass to a run of gallery rows. Memory is Q x D, and per thread one tile and
    the counts. Raise ValueError for features that are not unit vectors.

    >>> three = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    >>> found = count_negatives(three[:1], Labels(np.array([7]), np.array([0])),
    ...                         three, Labels(np.array([7, 0, -1]), np.array([1, 1, 1])),
    ...                         np.empty(0, np.int64))
    >>> len(found)  # the match and the junk are none
    1
    """
    queries, gallery = as_rows(queries), as_rows(gallery)
    first, last = part or (0, len(gallery))
    asked = np.flatnonzero(query_labels.identity > DISTRACTOR)
    wanted, own = queries.take(asked), query_labels.identity[asked]
    _check_length(wanted, "query")
    slot = np.full(_BINS, -1, np.int32)
    slot[settled] = np.arange(len(settled), dtype=np.int32)
    near = _widened(settled, margin(gallery.dimension))
    product, counters = Product(), _Counters(settled)

    def enter(start: int, stop: int, block: NDArray[np.float32]) -> _Kept:
        identity = gallery_labels.identity[start:stop]
        if (identity == JUNK).any():
            block = np.ascontiguousarray(block[identity != JUNK])
            identity = identity[identity != JUNK]
        _check_length(block, "gallery")
        order = np.argsort(identity, kind="stable")
        low = np.searchsorted(identity[order], own, "left")
        high = np.searchsorted(identity[order], own, "right")
        return _Kept(block, read_only(identity), order, low, high)

    def take(kept: _Kept, a: int, b: int) -> None:
        mine = counters.mine()
        _count_tile(
            product(wanted[a:b], kept.block), wanted[a:b], read_only(kept.block), own[a:b],
            kept.identity, kept.order, kept.low[a:b], kept.high[a:b], near, slot, mine.coarse,
            mine.fine,
        )  # fmt: skip

    passing = blocks(last, tiling.gallery_block, first)
    with tiling.workers() as run:
        sweep(passing, gallery.read, enter, (len(wanted), tiling.query_block), take, run)
    return counters.total()


def count_negatives_of_others(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    settled: NDArray[np.int64],
    *,
    part: tuple[int, int] | None = None,
    tiling: Tiling = Tiling(),
) -> Negatives:
    """Like `count_negatives`, but without the rows of the query's own camera, if that is known.

    >>> three = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    >>> found = count_negatives_of_others(three[:1], Labels(np.array([7]), np.array([0])),
    ...                                   three, Labels(np.array([9, 0, 5]), np.array([0, 1, -1])),
    ...                                   np.empty(0, np.int64))
    >>> len(found)
    2
    """
    queries, gallery = as_rows(queries), as_rows(gallery)
    first, last = part or (0, len(gallery))
    asked = {}
    for each in np.unique(query_labels.camera).tolist():
        own = np.flatnonzero(query_labels.camera == each)
        asked[each] = queries.take(own), query_labels.take(own)
    total = Negatives.none(settled)
    for start, stop in blocks(last, _BLOCKS_AT_ONCE * tiling.gallery_block, first):
        block, camera = gallery.read(start, stop), gallery_labels.camera[start:stop]
        for each, (rows, labels) in asked.items():
            kept = np.flatnonzero((camera != each) | (each == NO_CAMERA))
            theirs = gallery_labels.take(start + kept)
            total += count_negatives(rows, labels, block[kept], theirs, settled, tiling=tiling)
    return total


class _Kept(NamedTuple):
    """The rows of a block that are not junk, in `order` of identity.

    The rows of each query's own identity are at the places `low` to `high` of that order.
    """

    block: NDArray[np.float32]
    identity: NDArray[np.int64]
    order: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]


class _Counters:
    """The counts of each thread, which are added up at the end."""

    def __init__(self, settled: NDArray[np.int64]) -> None:
        self._settled = settled
        self._threads: dict[int, Negatives] = {}

    def mine(self) -> Negatives:
        thread = threading.get_ident()
        if thread not in self._threads:
            self._threads[thread] = Negatives.none(self._settled)
        return self._threads[thread]

    def total(self) -> Negatives:
        return sum(self._threads.values(), start=Negatives.none(self._settled))


def _check_length(rows: NDArray[np.float32], what: str) -> None:
    if not longest(rows) <= _LONGEST * 1.0001:  # `longest` rounds up by this factor
        raise ValueError(f"{what} features must be unit vectors")


def _widened(bins: NDArray[np.int64], by: int) -> NDArray[np.bool_]:
    """A mask `[BINS]` of the bins at most `by` away from one of `bins`."""
    mask = np.zeros(_BINS, bool)
    for shift in range(-by, by + 1):
        mask[np.clip(bins + shift, 0, _BINS - 1)] = True
    return mask


@njit(nogil=True, inline="always")
def _place(similarity: np.float32) -> np.int64:
    """The bin of a product; rounding may have moved the product to a neighboring bin."""
    return np.int64((similarity + np.float32(_BELOW * _WIDTH)) * np.float32(1 / _WIDTH))


@njit(nogil=True, cache=True)
def _count_tile(
    tile: NDArray[np.float32],
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    own: NDArray[np.int64],
    identity: NDArray[np.int64],
    order: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    near: NDArray[np.bool_],
    slot: NDArray[np.int32],
    coarse: NDArray[np.int64],
    fine: NDArray[np.int64],
) -> None:
    """Count a tile's pairs by bin, and subtract those of the query's own identity.

    The latter are the rows `order[low[i] : high[i]]` of the block.
    """
    for i in range(tile.shape[0]):
        line = tile[i]
        for column in range(line.shape[0]):
            bin_ = _place(line[column])
            coarse[bin_] += 1
            if near[bin_] and identity[column] != own[i]:
                exact = np.float64(pair_score(queries[i], gallery[column]))
                step = np.int64(np.floor(exact * STEPS))
                coarse[bin_] -= 1
                bin_ = step // BIN + _BELOW
                coarse[bin_] += 1
                if slot[bin_] >= 0:
                    fine[slot[bin_], step % BIN] += 1
        for place in range(low[i], high[i]):
            coarse[_place(line[order[place]])] -= 1
