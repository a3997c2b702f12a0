"""The ranks of every query's matches, by counting: nothing is sorted, and no Q x G array exists.

A match's rank is one more than the number of kept rows that beat it. So we compute each query's
similarity to its own matches, and then count, in one pass over the gallery, the kept rows that rank
before each match and are not matches.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, alone, as_rows, blocks
from pipeline.core.evaluation.labels import JUNK, Labels, check_labels, matching_pairs
from pipeline.core.evaluation.rank_tiles import (
    Block,
    GalleryBlock,
    QueryMatches,
    count_halves,
    on_device,
)
from pipeline.core.ledger import Ledger
from pipeline.core.products.choosing import ALL, Plan, Trial, code_sides, likely_axes
from pipeline.core.products.counting import MOST_MATCHES, are_many, count_at_once, matches_beaten
from pipeline.core.products.fold import Fold
from pipeline.core.products.kernels import pair_scores, read_only
from pipeline.core.products.kernels import score as pair_score
from pipeline.core.products.masks import at_least, first_bit, neither
from pipeline.core.products.sieve import sieved
from pipeline.core.products.tiles import (
    Products,
    Side,
    Tile,
    far_threshold,
    gives_up,
    make_side,
    next_values,
    take_codes,
    take_device,
    threshold,
)
from pipeline.core.sweep import sweep

_PAIRS_AT_ONCE = 4096
_LAST = 2**62  # the number of a row that loses every tie


@dataclass(frozen=True)
class RankCounts:
    """Every query's matches in order of rank, and the number of other kept rows before each.

    The matches of query q are the entries `offsets[q]` to `offsets[q + 1]`. `rows` int64 `[M]` are
    their gallery rows, and `scores` float32 `[M]` their similarities (descending, ties by row).
    `ahead` int64 `[M]` is the number of kept rows, in the gallery part counted so far, that beat
    the match and are not matches. `+` adds the counts of disjoint parts of one gallery.
    """

    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    ahead: NDArray[np.int64]

    def __post_init__(self) -> None:
        matches = int(self.offsets[-1])
        if not len(self.rows) == len(self.scores) == len(self.ahead) == matches:
            raise ValueError(f"{matches} matches need as many rows, scores and counts")
        inside = np.ones(matches, bool)
        inside[self.offsets[:-1][self.offsets[:-1] < matches]] = False
        later = np.flatnonzero(inside)
        if (self.scores[later] > self.scores[later - 1]).any():
            raise ValueError("the matches of a query are out of order")
        if (self.ahead[later] < self.ahead[later - 1]).any():
            raise ValueError("a match has fewer rows before it than one that beats it")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __add__(self, other: "RankCounts") -> "RankCounts":
        if not (
            np.array_equal(self.offsets, other.offsets) and np.array_equal(self.rows, other.rows)
        ):
            raise ValueError("counts of different matches cannot be added")
        return RankCounts(self.offsets, self.rows, self.scores, self.ahead + other.ahead)

    def ranks(self) -> NDArray[np.int64]:
        """The rank `[M]`, from 1, of every match among the kept rows of its query."""
        before = np.arange(len(self.rows)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return self.ahead + before + 1


def matches(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    *,
    tiling: Tiling = Tiling(),
) -> RankCounts:
    """Find every query's matches, before anything is counted.

    A match is a gallery row with the query's identity (a positive one) from another camera. Only
    the matching rows are read, on the threads of the tiling.
    """
    queries, gallery = as_rows(queries), as_rows(gallery)
    check_labels(queries, query_labels, "query")
    check_labels(gallery, gallery_labels, "gallery")
    if queries.dimension != gallery.dimension:
        raise ValueError(
            f"queries have {queries.dimension} dimensions, the gallery {gallery.dimension}"
        )
    owner, rows = matching_pairs(query_labels, gallery_labels)
    scores = np.empty(len(rows), np.float32)
    wanted = queries.read(0, len(queries))
    by_row = np.argsort(rows, kind="stable")

    def score(start: int, stop: int) -> None:
        pairs = by_row[start:stop]
        first = np.diff(rows[pairs], prepend=-1) > 0
        needed, place = rows[pairs][first], np.cumsum(first) - 1
        scores[pairs] = pair_scores(wanted, gallery.take(needed), owner[pairs], place)

    with tiling.workers() as run:
        run(score, blocks(len(rows), _PAIRS_AT_ONCE))
    order = np.lexsort((-scores, owner))  # stable, and the rows of a query ascend
    offsets = np.searchsorted(owner, np.arange(len(queries) + 1)).astype(np.int64)
    return RankCounts(offsets, rows[order], scores[order], np.zeros(len(rows), np.int64))


def rank_counts(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    *,
    found: RankCounts | None = None,
    part: tuple[int, int] | None = None,
    tiling: Tiling = Tiling(),
    products: Products = "auto",
    ledger: Ledger | None = None,
) -> RankCounts:
    """Count, for every match, the kept rows of the gallery that rank before it: exact.

    Junk (identity -1, and rows of the query's identity and camera) is not counted. `found` is the
    result of `matches`, if the caller has it already. `part` limits the pass to a run of gallery
    rows, and `+` joins the parts. Memory is Q x D, the matches, three blocks of the gallery, and
    one tile per thread. `products` selects the arithmetic of tiles: int8 codes of all dimensions,
    int8 codes of the principal ones, float32, or `auto`, which measures and takes the fastest; if
    the tiling has a GPU, `auto` takes float16. The `ledger` counts the products of each kind.

    Raise ValueError, with the row number, for a row that is not finite or is so long that its
    scores overflow float32.

    >>> features = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], np.float32)
    >>> gallery = Labels(np.array([0, 9, 7]), np.array([1, 1, 1]))
    >>> rank_counts(features[:1], Labels(np.array([7]), np.array([0])), features, gallery).ranks()
    array([3])
    """
    queries, gallery = as_rows(queries), as_rows(gallery)
    found = found or matches(queries, query_labels, gallery, gallery_labels, tiling=tiling)
    device = take_device(products, tiling)
    tiling = tiling.flat_for_gpu() if device else tiling
    first, last = part or (0, len(gallery))
    targets = _query_matches(query_labels, found)
    pairs, coded_rows = len(targets.place) * (last - first), len(targets.place) + last - first
    coded = not device and take_codes(products, queries.dimension, pairs, coded_rows)
    size = tiling.gallery_block if device else tiling.tile
    with tiling.workers() as run:
        query_side = make_side(
            queries.take(targets.place), tiling.even_block(len(targets.place)), run,
            name="query", numbers=targets.place, coded=coded, in_order=True, device=device,
        )  # fmt: skip
        there = on_device(query_side, targets)
        fold = Fold(products, choices=max(1, len(query_side)), ledger=ledger)
        plan = Plan(None, ALL)

        def make(start: int, stop: int) -> Side:
            return make_side(
                gallery.read(start, stop), size, run,
                name="gallery row", numbers=np.arange(start, stop), coded=coded, device=device,
            )  # fmt: skip

        def enter(start: int, stop: int, side: Side) -> GalleryBlock:
            nonlocal plan
            import torch  # slow to load, and not all that import this module count ranks

            if start == first and query_side.coded and products != "int8":
                meets = pairs / max(1, coded_rows)
                plan = alone(run, lambda: _choose(query_side, side, targets, meets, products))
            code_sides(query_side, side, plan, run)
            identity = read_only(gallery_labels.identity[start:stop])
            block = Block(read_only(side.features), start, identity)
            return GalleryBlock(
                side, block, torch.from_numpy(block.identity.copy()).to(device or "cpu")
            )

        def take(gallery_block: GalleryBlock, x: int, _stop: int) -> None:
            def offer(tile: Tile) -> tuple[int, int]:
                return _count_tile(tile, query_side.features, gallery_block.block, targets)

            for y in range(len(gallery_block.side)):
                if not count_halves(query_side, x, there, gallery_block, y, targets):
                    fold(query_side, x, gallery_block.side, y, offer)

        passing = blocks(last, tiling.gallery_block, first)
        sweep(passing, make, enter, (len(query_side), 1), take, run)
    starts, ends = found.offsets[:-1], found.offsets[1:]
    valid = np.flatnonzero(ends > starts)
    ahead = rows_ahead(targets.beaten, starts[valid], ends[valid], len(found.rows))
    return RankCounts(found.offsets, found.rows, found.scores, ahead)


def _query_matches(labels: Labels, found: RankCounts) -> QueryMatches:
    place = np.flatnonzero(np.diff(found.offsets))
    slots = found.offsets[place] + np.arange(len(place))
    # Sort the queries so that neighbors leave similar numbers of pairs open: the lower the
    # similarity of a match, the more rows come near it.
    order = np.argsort(found.scores[found.offsets[place + 1] - 1], kind="stable")
    place = place[order]
    return QueryMatches(
        place,
        labels.identity[place],
        found.offsets[place],
        found.offsets[place + 1],
        slots[order],
        read_only(found.rows),
        read_only(found.scores),
        np.zeros(len(found.rows) + len(place), np.int64),
    )


def _choose(
    query_side: Side, gallery: Side, targets: QueryMatches, meets: float, products: Products
) -> Plan:
    """Choose the codes by the number of pairs that come near a match."""
    axes = likely_axes(gallery, products)
    trial = Trial(query_side, gallery, axes, meets, products)

    def share(upper: NDArray[np.float32], lower: NDArray[np.float32]) -> float:
        near = 0
        for q, high, low in zip(trial.rows, upper, lower, strict=True):
            matched = np.sort(targets.scores[targets.starts[q] : targets.ends[q]])
            near += int(
                (np.searchsorted(matched, high, "right") > np.searchsorted(matched, low)).sum()
            )
        return near / upper.size

    return Plan(axes, trial.choose(share))


@njit(nogil=True, cache=True)
def rows_ahead(
    beaten: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64], total: int
) -> NDArray[np.int64]:
    """Convert "rows that beat exactly x matches" to "rows before match i", query by query.

    A query's matches are sorted best first. So a row that beats x of its n matches ranks before the
    last x of them: before match i if x >= n - i.
    """
    ahead = np.zeros(total, np.int64)
    for place in range(starts.shape[0]):
        count = 0
        for match in range(starts[place], ends[place]):
            # A query has one slot more than matches.
            count += beaten[ends[place] + place - (match - starts[place])]
            ahead[match] = count
    return ahead


@njit(nogil=True, cache=True)
def _count_tile(
    tile: Tile, queries: NDArray[np.float32], gallery: Block, targets: QueryMatches
) -> tuple[int, int]:
    """Count a tile's rows in the slots of its queries; return the queries counted completely and
    the pairs scored.

    The function stops early if it must score too many pairs. A row of the query's own identity is a
    match or junk, so it is not counted. A value settles the count if no match lies between its
    bounds; otherwise the `score` does, ties by row.
    """
    scores, rows, sieve = targets.scores, targets.rows, tile.sieve
    identities = gallery.identity[tile.columns]
    own = np.empty(1, tile.values.dtype)
    low, high = np.empty((2, MOST_MATCHES), tile.values.dtype)
    scored = 0
    has_tails, longest, above = tile.row_tails.shape[0] > 0, 0.0, 0.0
    if has_tails:
        longest = tile.column_tails.max()
    base, ready, height = 0, 0, tile.rows.shape[0]
    for r in range(height):
        if gives_up(tile, scored, r):
            return r, scored
        if r == ready:
            base, ready = next_values(tile, r)
        line, q = tile.values[r - base], tile.rows[r]
        start, end, identity = targets.starts[q], targets.ends[q], targets.identity[q]
        slots = targets.beaten[targets.slots[q] : targets.slots[q] + end - start + 1]
        own[0] = threshold(scores[end - 1], tile)
        counted = 0
        for first in range(0, line.shape[0], 64):
            near = at_least(line, first, own[0])
            if near != 0:
                near &= neither(identities, first, identity, np.int64(JUNK))
            if are_many(near, end - start):
                if has_tails:
                    above = tile.row_tails[r]
                while counted < end - start:
                    low[counted] = threshold(scores[start + counted], tile)
                    high[counted] = far_threshold(scores[start + counted], above, longest, tile)
                    counted += 1
                near = count_at_once(line, first, near, low[:counted], high[:counted], slots)
            while near != 0:
                c = first + first_bit(near)
                near &= near - np.uint64(1)
                value, j = line[c] / tile.per_unit, tile.columns[c]
                least = value - tile.slack
                if has_tails:
                    least -= 2.0 * tile.row_tails[r] * tile.column_tails[c]
                beats = matches_beaten(scores, rows, start, end, least, _LAST)
                most = matches_beaten(scores, rows, start, end, value + tile.slack, -1)
                if beats != most and sieve.rows.shape[0] > 0:
                    value = sieved(sieve.rows, q, sieve.columns, j) / sieve.per_unit
                    least = value - sieve.slack - 2.0 * sieve.row_tails[q] * sieve.column_tails[j]
                    beats = matches_beaten(scores, rows, start, end, least, _LAST)
                    most = matches_beaten(scores, rows, start, end, value + sieve.slack, -1)
                if beats != most:
                    exact = pair_score(queries[q], gallery.features[j])
                    beats = matches_beaten(scores, rows, start, end, exact, gallery.first_row + j)
                    scored += 1
                slots[beats] += 1
    return height, scored
