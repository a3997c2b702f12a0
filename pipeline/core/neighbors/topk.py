"""Find the k best gallery rows of every query, exactly, one tile at a time."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Run, Tiling, alone, as_rows, blocks
from pipeline.core.ledger import Account, Ledger
from pipeline.core.neighbors.heaps import push, sort_best_first
from pipeline.core.neighbors.priming import prime
from pipeline.core.products.choosing import ALL, Plan, Trial, code_sides, likely_axes
from pipeline.core.products.fold import Fold
from pipeline.core.products.half_rows import Standing, nominate
from pipeline.core.products.kernels import read_only, score
from pipeline.core.products.masks import at_least, first_bit
from pipeline.core.products.sieve import sieved
from pipeline.core.products.tiles import (
    Products,
    Side,
    Tile,
    gives_up,
    make_side,
    next_values,
    reach,
    take_codes,
    take_device,
    threshold,
)
from pipeline.core.sweep import sweep

_NOWHERE = -1  # the own row number of a query that is not in the gallery


@dataclass(frozen=True)
class TopK:
    """The best gallery rows of every query, best first: similarity descending, then row ascending.

    `scores` is float32 `[N, k]` and `rows` int64 `[N, k]`. If fewer than k rows exist, scores of
    -inf and rows of -1 fill the rest. Raise ValueError if the shapes differ or the rows are not in
    this order.

    >>> TopK(np.array([[0.9, 0.5]], np.float32), np.array([[7, 2]]))
    TopK(scores=array([[0.9, 0.5]], dtype=float32), rows=array([[7, 2]]))
    """

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or self.scores.shape != self.rows.shape:
            raise ValueError(
                f"scores {self.scores.shape} and rows {self.rows.shape} must be one shape [N, k]"
            )
        if self.scores.dtype != np.float32 or self.rows.dtype != np.int64:
            raise ValueError(
                f"scores must be float32 and rows int64, not {self.scores.dtype}, {self.rows.dtype}"
            )
        if np.isnan(self.scores).any():
            raise ValueError("a score is NaN")
        if ((self.rows == -1) != np.isneginf(self.scores)).any():
            raise ValueError("padding must be row -1 with score -inf, and nothing else may be")
        left, right = slice(None, -1), slice(1, None)
        scores, rows = self.scores, self.rows
        worse = (scores[:, left] < scores[:, right]) | (
            (scores[:, left] == scores[:, right])
            & (rows[:, left] >= rows[:, right])
            & (rows[:, left] != -1)
        )
        if worse.any():
            query = int(np.flatnonzero(worse.any(axis=1))[0])
            raise ValueError(f"the neighbors of query {query} are out of order or repeated")

    @classmethod
    def none(cls, rows: int, k: int) -> "TopK":
        """Empty lists for this number of rows."""
        return cls(np.full((rows, k), -np.inf, np.float32), np.full((rows, k), -1, np.int64))

    @property
    def k(self) -> int:
        """The number of neighbors per query, including padding."""
        return self.scores.shape[1]

    def __len__(self) -> int:
        return self.scores.shape[0]


def search(
    queries: NDArray[np.float32] | FeatureRows,
    gallery: NDArray[np.float32] | FeatureRows,
    k: int,
    *,
    self_offset: int | None = None,
    part: tuple[int, int] | None = None,
    tiling: Tiling = Tiling(),
    products: Products = "auto",
    ledger: Ledger | None = None,
) -> TopK:
    """Find the `k` best gallery rows of every query by `kernels.score`: exact, ties by row.

    `queries` `[Q, D]`, `gallery` `[G, D]`. If the queries are rows of the gallery, `self_offset` is
    the gallery row of the first query, and no query finds itself. `part` limits the search to a run
    of gallery rows, which keep their numbers; `merge` joins the parts. The search reads every
    gallery row once. Memory is Q x (D + k), three blocks of the gallery, and one tile per thread.
    `products` selects the arithmetic of tiles: int8 codes of all dimensions, int8 codes of the
    principal ones, float32, or `auto`, which measures and takes the fastest; if the tiling has a
    GPU, `auto` takes float16. The `ledger` counts the products of each kind.

    Raise ValueError, with the row number, for a row that is not finite or is so long that its
    scores overflow float32.

    >>> search(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), 2).rows
    array([[0, 1],
           [1, 0],
           [2, 0]])
    """
    queries, gallery = as_rows(queries), as_rows(gallery)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    k = min(k, len(gallery))
    if queries.dimension != gallery.dimension:
        raise ValueError(
            f"queries have {queries.dimension} dimensions, the gallery {gallery.dimension}"
        )
    device = take_device(products, tiling)
    tiling = tiling.for_gpu() if device else tiling
    first, last = part or (0, len(gallery))
    size = tiling.even_block(len(queries))
    pairs, coded_rows = len(queries) * (last - first), len(queries) + last - first
    coded = not device and take_codes(products, queries.dimension, pairs, coded_rows)
    itself = np.full(len(queries), _NOWHERE)
    if self_offset is not None:
        itself = np.arange(len(queries)) + self_offset
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    ledger = ledger or Ledger()
    with tiling.workers() as run:
        query_side = make_side(
            queries.read(0, len(queries)), size, run,
            name="query", numbers=np.arange(len(queries)), coded=coded, device=device,
        )  # fmt: skip
        fold = Fold(products, choices=max(1, len(query_side)), ledger=ledger)
        leading = _Leading(query_side, scores, products, last - first)
        asked = read_only(query_side.features)

        def enter(start: int, stop: int, features: NDArray[np.float32]) -> tuple[Side, int]:
            side = make_side(
                features, tiling.tile, run,
                name="gallery row", numbers=np.arange(start, stop), coded=coded, device=device,
            )  # fmt: skip
            leading.code(side, run)
            return side, start

        def take(entered: tuple[Side, int], x: int, _stop: int) -> None:
            side, start = entered

            def offer(tile: Tile) -> tuple[int, int]:
                held = read_only(side.features)
                primed = prime(tile, asked, held, scores, rows)
                done, scored = offer_tile(tile, asked, held, start, itself, scores, rows)
                return done, primed + scored

            for y in range(len(side)):
                if _offer_halves(query_side, x, side, y, start, self_offset, scores, rows, ledger):
                    continue
                # For the first tile the heaps are empty, so it says nothing about the codes.
                fold(query_side, x, side, y, offer, patient=start == first and y == 0)

        passing = blocks(last, tiling.gallery_block, first)
        sweep(passing, gallery.read, enter, (len(query_side), 1), take, run)
    return best_first(scores, rows, k)


class _Leading:
    """Choose, from the scores found so far, in how many leading dimensions a search codes its
    sides.

    The choice is made again after one block of the gallery, two, four and so on.
    """

    def __init__(
        self, queries: Side, scores: NDArray[np.float32], products: Products, rows: int
    ) -> None:
        self._queries, self._scores, self._products = queries, scores, products
        self._meets = len(queries.features) * rows / max(1, len(queries.features) + rows)
        self._seen, self._plan = 0, Plan(None, ALL)

    def code(self, gallery: Side, run: Run) -> None:
        """Code the next block of the gallery, and the queries to match it."""
        if not (self._queries.coded and gallery.coded):
            return
        first = self._products == "principal" and self._seen == 0
        if self._products != "int8" and (first or self._seen.bit_count() == 1):
            alone(run, lambda: self._choose(gallery))
        self._seen += 1
        leading = self._queries.leading
        if leading and leading.chosen == self._plan.chosen:
            gallery.lead(leading.axes, leading.chosen, run)
            if gallery.leading:
                return
        code_sides(self._queries, gallery, self._plan, run)

    def _choose(self, gallery: Side) -> None:
        axes = self._plan.axes or likely_axes(gallery, self._products)
        trial = Trial(self._queries, gallery, axes, self._meets, self._products)
        worst = self._scores[trial.rows, :1]

        def share(upper: NDArray[np.float32], _lower: NDArray[np.float32]) -> float:
            return float((upper >= worst).mean())

        self._plan = Plan(axes, trial.choose(share))


def merge(parts: list[TopK], k: int | None = None) -> TopK:
    """The `k` best of several searches of disjoint parts of one gallery for the same queries.

    Without `k`, the result has as many neighbors as the widest part. Parts may come in any order
    and may be results of earlier merges.
    """
    k = max(part.k for part in parts) if k is None else k
    scores = np.concatenate([part.scores for part in parts], axis=1)
    rows = np.concatenate([part.rows for part in parts], axis=1)
    return best_first(scores, rows, k)


def best_first(scores: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> TopK:
    """The k best of each line of `scores` and `rows` `[N, M]`, which may be in any order."""
    scores, rows = scores.copy(), rows.copy()
    sort_best_first(scores, rows)
    return TopK(np.ascontiguousarray(scores[:, :k]), np.ascontiguousarray(rows[:, :k]))


def _offer_halves(
    queries: Side,
    x: int,
    gallery: Side,
    y: int,
    first_row: int,
    self_offset: int | None,
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    ledger: Ledger,
) -> bool:
    """Offer the pairs of a tile that its float16 rows nominate.

    Return False if there are no float16 rows or too many pairs; the caller then uses codes or
    float32.
    """
    if queries.halves is None or gallery.halves is None:
        return False
    query_rows, gallery_rows = queries.places(x), gallery.places(y)
    standing = Standing(
        scores[query_rows, 0], np.empty(0, np.float32), scores.shape[1], self_offset is not None
    )
    pairs = nominate(queries.halves, x, gallery.halves, y, standing)
    if pairs is None:
        return False
    ledger.add(Account(halves=len(query_rows) * len(gallery_rows), scored=len(pairs)))
    if self_offset is not None:
        others = query_rows[pairs[:, 0]] + self_offset != gallery_rows[pairs[:, 1]] + first_row
        pairs = pairs[others]
    _offer_pairs(
        query_rows[pairs[:, 0]], gallery_rows[pairs[:, 1]], read_only(queries.features),
        read_only(gallery.features), first_row, scores, rows,
    )  # fmt: skip
    return True


@njit(nogil=True, cache=True)
def _offer_pairs(
    query_rows: NDArray[np.int64],
    gallery_rows: NDArray[np.int64],
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    first_row: int,
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> None:
    """Offer the pairs of `query_rows` and `gallery_rows`, both `[P]`, to the queries' heaps."""
    for p in range(query_rows.shape[0]):
        i, j = query_rows[p], gallery_rows[p]
        push(scores[i], rows[i], score(queries[i], gallery[j]), first_row + j)


@njit(nogil=True, cache=True)
def offer_tile(
    tile: Tile,
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    first_row: int,
    itself: NDArray[np.int64],
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> tuple[int, int]:
    """Offer a tile's pairs to the heaps of its queries; return the queries offered completely and
    the pairs scored.

    The function stops early if it must score too many pairs. Row `itself[i]` is query i itself and
    is skipped. Only pairs that may beat the root of the heap, which is the worst row in it, get
    their `score`.
    """
    own, sieve = np.empty(1, tile.values.dtype), tile.sieve
    of_sieve = sieve.slack, sieve.per_unit, tile.limit
    scored = 0
    base, ready, height = 0, 0, tile.rows.shape[0]
    for r in range(height):
        if gives_up(tile, scored, r):
            return r, scored
        if r == ready:
            base, ready = next_values(tile, r)
        line, i = tile.values[r - base], tile.rows[r]
        own[0] = threshold(scores[i, 0], tile)
        for start in range(0, line.shape[0], 64):
            near = at_least(line, start, own[0])
            while near != 0:
                c = start + first_bit(near)
                near &= near - np.uint64(1)
                j = tile.columns[c]
                if line[c] < own[0] or first_row + j == itself[i]:
                    continue
                if sieve.rows.shape[0] > 0:
                    sharper = sieved(sieve.rows, i, sieve.columns, j)
                    if sharper < reach(scores[i, 0], of_sieve):
                        continue
                scored += 1
                push(scores[i], rows[i], score(queries[i], gallery[j]), first_row + j)
                own[0] = threshold(scores[i, 0], tile)
    return height, scored
