"""The ranks of every query's matches in re-ranked lists, by counting: no Q x G array exists.

A row that shares no weight with the query has J = 1, so its final distance follows from its
similarity alone. Therefore a match comes after all such rows above a certain similarity, which is
computed in advance. The few rows that share weight are placed by their final distances.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.evaluation import ranking
from pipeline.core.evaluation.labels import JUNK, Labels
from pipeline.core.evaluation.ranking import RankCounts, rows_ahead
from pipeline.core.float_products import Product
from pipeline.core.products.counting import MOST_MATCHES, are_many, count_at_once
from pipeline.core.products.kernels import longest, product_slack, read_only
from pipeline.core.products.kernels import score as pair_score
from pipeline.core.products.masks import at_least, first_bit, neither
from pipeline.core.reranking.distances import (
    Overlap,
    Reranked,
    Reranking,
    final_distance,
    inverted,
    pair_distances,
)
from pipeline.core.reranking.reciprocal import SparseRows
from pipeline.core.sweep import sweep

_TINY = np.finfo(np.float32).tiny
_LARGEST_BITS = 0x7F7FFFFF  # the bits of the largest finite float32


def matches(
    reranked: Reranked,
    query_labels: Labels,
    gallery_labels: Labels,
    *,
    tiling: Tiling = Tiling(),
) -> RankCounts:
    """Find every query's matches by final distance, nearest first, before anything is counted.

    This is `ranking.matches` with negative final distances as scores.
    """
    settings = reranked.settings
    sides = reranked.queries, query_labels, reranked.gallery, gallery_labels
    found = ranking.matches(*sides, tiling=tiling)
    owner = np.repeat(np.arange(len(found)), np.diff(found.offsets))
    distances = pair_distances(
        found.scores, owner, found.rows, *reranked.query_weights.arrays,
        *reranked.gallery_weights.arrays, reranked.greatest, settings.lam, settings.squared,
    )  # fmt: skip
    order = np.lexsort((found.rows, distances, owner))
    return RankCounts(found.offsets, found.rows[order], -distances[order], found.ahead)


def rank_counts(
    reranked: Reranked,
    query_labels: Labels,
    gallery_labels: Labels,
    *,
    found: RankCounts | None = None,
    part: tuple[int, int] | None = None,
    tiling: Tiling = Tiling(),
) -> RankCounts:
    """Count, for every match, the kept rows of the gallery with a smaller final distance: exact.

    Ties by row; junk as in `ranking.rank_counts`. `found` is the result of `matches`, if the caller
    has it already. `part` limits the pass to a run of gallery rows, and `+` joins the parts. Memory
    is Q x D, the encodings, the matches, and two tiles per thread.
    """
    settings = reranked.settings
    found = found or matches(reranked, query_labels, gallery_labels, tiling=tiling)
    first, last = part or (0, len(reranked.gallery))
    asked = np.flatnonzero(np.diff(found.offsets))
    wanted = reranked.queries.take(asked)
    own, greatest = query_labels.identity[asked], reranked.greatest[asked]
    starts, ends = found.offsets[asked], found.offsets[asked + 1]
    beaten = np.zeros(len(found.rows) + len(asked), np.int64)
    limits = _limits(found, asked, greatest, settings)
    product, overlap, reach = Product(), Overlap(), longest(wanted)

    def enter(start: int, stop: int, block: NDArray[np.float32]) -> _Block:
        slack = product_slack(reranked.gallery.dimension, reach, longest(block))
        index = inverted(reranked.gallery_weights, start, stop, reranked.width)
        identity = read_only(gallery_labels.identity[start:stop])
        return _Block(block, start, identity, slack, index)

    def take(block: _Block, a: int, b: int) -> None:
        tile = product(wanted[a:b], block.features)
        shared = overlap(reranked.query_weights, asked[a:b], block.shares, len(block.features))
        _count_tile(
            tile, shared, wanted[a:b], read_only(block.features), block.first_row, block.slack,
            own[a:b], block.identity, starts[a:b], ends[a:b], a, limits, greatest[a:b],
            settings.lam, settings.squared, beaten,
        )  # fmt: skip

    passing = blocks(last, tiling.gallery_block, first)
    with tiling.workers() as run:
        read = reranked.gallery.read
        sweep(passing, read, enter, (len(wanted), tiling.query_block), take, run)
    return RankCounts(
        found.offsets, found.rows, found.scores, rows_ahead(beaten, starts, ends, len(found.rows))
    )


class _Block(NamedTuple):
    """Rows of the gallery from `first_row` on, the error bound of products with them, and their
    inverted weights, `shares`.
    """

    features: NDArray[np.float32]
    first_row: int
    identity: NDArray[np.int64]
    slack: np.float32
    shares: SparseRows


class _Limits(NamedTuple):
    """The limits that a row must reach to come before each match: `better`, or `equal` with a won
    tie.

    The limit is a negative final distance, or, for a row with J = 1, a similarity.
    """

    rows: NDArray[np.int64]
    equal: NDArray[np.float32]
    better: NDArray[np.float32]
    similarity_equal: NDArray[np.float32]
    similarity_better: NDArray[np.float32]


def _limits(
    found: RankCounts,
    asked: NDArray[np.int64],
    greatest: NDArray[np.float64],
    settings: Reranking,
) -> _Limits:
    better = np.nextafter(found.scores, np.float32(np.inf))
    owned = np.repeat(greatest, np.diff(found.offsets)[asked])
    return _Limits(
        read_only(found.rows),
        read_only(found.scores),
        better,
        _least_similarities(-found.scores, owned, settings.lam, settings.squared),
        _least_similarities(-better, owned, settings.lam, settings.squared),
    )


@njit(nogil=True, cache=True)
def _least_similarities(
    limits: NDArray[np.float32], greatest: NDArray[np.float64], lam: float, squared: bool
) -> NDArray[np.float32]:
    """The least float32 similarity at which a row with J = 1 has a final distance within each
    limit.

    It is inf if no similarity has. Binary search finds it, because a final distance never grows
    with the similarity.
    """
    out = np.empty(limits.shape[0], np.float32)
    bits = np.zeros(1, np.int32)
    value = bits.view(np.float32)
    for p in range(limits.shape[0]):
        # Non-negative floats sort like their bits; negative keys stand for negative floats.
        low, high = -_LARGEST_BITS, _LARGEST_BITS + 1
        while low < high:
            middle = (low + high) // 2
            bits[0] = abs(middle)
            s = value[0] if middle >= 0 else -value[0]
            if final_distance(s, np.float32(0), greatest[p], lam, squared) <= limits[p]:
                high = middle
            else:
                low = middle + 1
        bits[0] = abs(low)
        out[p] = value[0] if low >= 0 else -value[0]
    return out


@njit(nogil=True, cache=True)
def _count_tile(
    tile: NDArray[np.float32],
    shared: NDArray[np.float32],
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    first_row: int,
    slack: np.float32,
    own: NDArray[np.int64],
    identity: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    first_query: int,
    limits: _Limits,
    greatest: NDArray[np.float64],
    lam: float,
    squared: bool,
    beaten: NDArray[np.int64],
) -> None:
    """Count a tile's rows in the slots of its queries: one slot for each number of beaten matches.

    A row of the query's own identity is a match or junk, so it is not counted. A row that shares
    weight with the query is placed by its final distance. For the others, with J = 1, a product
    settles the place if the number of beaten matches is the same within `slack` of it; otherwise
    the `score` does.
    """
    low, high = np.empty((2, MOST_MATCHES), np.float32)
    for i in range(tile.shape[0]):
        line, start, end = tile[i], starts[i], ends[i]
        slots = beaten[start + first_query + i : end + first_query + i + 1]
        own_reach, ready = limits.similarity_equal[end - 1] - slack, 0
        for column0 in range(0, line.shape[0], 64):
            sharing = at_least(shared[i], column0, _TINY)
            near = at_least(line, column0, own_reach) | sharing
            if near != 0:
                near &= neither(identity, column0, own[i], np.int64(JUNK))
            alone = near & ~sharing
            if are_many(alone, end - start):
                while ready < end - start:
                    low[ready] = limits.similarity_equal[start + ready] - slack
                    high[ready] = limits.similarity_better[start + ready] + slack
                    ready += 1
                still_open = count_at_once(line, column0, alone, low[:ready], high[:ready], slots)
                near = near & sharing | still_open
            while near != 0:
                column = column0 + first_bit(near)
                near &= near - np.uint64(1)
                row, s = first_row + column, line[column]
                if shared[i, column] > 0:
                    s = pair_score(queries[i], gallery[column])
                    nearness = -final_distance(s, shared[i, column], greatest[i], lam, squared)
                    beats = _beaten(
                        limits.equal, limits.better, limits.rows, start, end, nearness, row
                    )
                else:
                    equal, better = limits.similarity_equal, limits.similarity_better
                    beats = _beaten(equal, better, limits.rows, start, end, s - slack, row)
                    if beats != _beaten(equal, better, limits.rows, start, end, s + slack, row):
                        s = pair_score(queries[i], gallery[column])
                        beats = _beaten(equal, better, limits.rows, start, end, s, row)
                slots[beats] += 1


@njit(nogil=True, inline="always")
def _beaten(
    equal: NDArray[np.float32],
    better: NDArray[np.float32],
    rows: NDArray[np.int64],
    start: int,
    end: int,
    reached: np.float32,
    row: int,
) -> int:
    """The number of matches from `start` to `end`, best first, that come after a row which reached
    `reached`.
    """
    low, high = start, end
    while low < high:
        middle = (low + high) // 2
        if reached >= better[middle] or (reached >= equal[middle] and row < rows[middle]):
            high = middle
        else:
            low = middle + 1
    return end - low
