"""The neighbor graph: the k best rows for every row, exactly, within one set or between two.

Similarity is symmetric, so each pair is computed once, and each tile updates both its rows and its
columns. Tiles are products of int8 codes. They only nominate pairs: a pair gets its `score` if the
error bound of the codes cannot exclude it. If the codes exclude too few pairs because rows are
nearly alike, tiles are float32 products. Both ways give the same result to the bit. The same tiles
also give the least score of every row, that is, the score of its farthest row, if the caller needs
it.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Run, Tiling, as_rows, blocks
from pipeline.core.ledger import Account, Ledger
from pipeline.core.neighbors.course import Course, Ends, fell_short
from pipeline.core.neighbors.heaps import push
from pipeline.core.neighbors.offering import offer_to_both
from pipeline.core.neighbors.priming import prime
from pipeline.core.neighbors.schedule import rectangle, run_tiles, triangle
from pipeline.core.neighbors.topk import TopK, best_first, merge, offer_tile
from pipeline.core.products.choosing import code_like
from pipeline.core.products.fold import Fold
from pipeline.core.products.half_rows import Standing, nominate
from pipeline.core.products.kernels import read_only, score
from pipeline.core.products.tiles import (
    Products,
    Side,
    Tile,
    make_side,
    take_codes,
    take_device,
)

_SHORTEST = 1e-18
"""Minimum row length; scores of longer rows do not underflow."""


def neighbors(
    features: NDArray[np.float32] | FeatureRows,
    k: int,
    *,
    first_row: int | NDArray[np.int64] = 0,
    known: TopK | None = None,
    least: NDArray[np.float32] | None = None,
    tiling: Tiling = Tiling(),
    products: Products = "auto",
    ledger: Ledger | None = None,
) -> TopK:
    """Find the `k` best other rows for every row of `features` `[N, D]`: exact, ties by row.

    The result equals `topk.search(features, features, k, self_offset=0)`, in less than half the
    time. If the features are part of a larger set, `first_row` is the number of the first row, or
    holds the numbers `[N]` of all rows. `known` holds neighbors outside the features; they compete
    with the new ones. If `least` float32 `[N]` is given, each value is lowered to the least score
    of its row with another of the features.

    A tile is a square whose side is the smaller of the tiling's two block sizes. `products` selects
    the arithmetic of tiles: int8 codes of all dimensions, int8 codes of the principal ones,
    float32, or `auto`. `auto` uses int8 if the processor has instructions for it, and switches to
    float32 while codes nominate too many pairs; if the tiling has a GPU, it uses float16 there. The
    `ledger` counts the products of each kind. Memory is the features, up to half of that for the
    codes, N x k, and one tile per thread. Raise ValueError, with the row number, for a row that is
    not finite or has length 0.

    >>> x = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    >>> least = np.full(3, np.inf, np.float32)
    >>> neighbors(x, 1, least=least).rows.ravel()
    array([1, 2, 1])
    >>> least
    array([0. , 0.6, 0. ], dtype=float32)
    """
    rows = as_rows(features)
    device = take_device(products, tiling)
    tiling = tiling.for_gpu() if device else tiling
    coded = not device and take_codes(products, rows.dimension, len(rows) ** 2 // 2, len(rows))
    size = min(tiling.tile, max(1, len(rows)))
    ledger = ledger or Ledger()
    with tiling.workers() as run:
        side, ends = _side(rows, first_row, size, k, len(rows), known, least, coded, device, run)
        fold = Fold(products, ledger=ledger)
        course = Course(side, ends, side, ends, products)
        course.begin(run)

        def work(x: int, y: int) -> None:
            def offer(tile: Tile) -> tuple[int, int]:
                primed = 0
                if x == y:
                    primed = prime(tile, ends.features, ends.features, ends.scores, ends.rows)
                done, scored = offer_to_both(tile, ends, ends, x == y)
                return done, primed + scored

            course.go_on()
            if not _offer_halves(side, x, ends, side, y, ends, ledger, diagonal=x == y):
                # On the diagonal the heaps start empty, so the first tile says nothing about the
                # codes.
                fold(side, x, side, y, offer, patient=x == y)

        run_tiles(work, course.over(triangle(len(side))), run)
        return _finish(side, ends, side, ends, known, tiling, fold, run)


def between(
    first: NDArray[np.float32] | FeatureRows,
    second: NDArray[np.float32] | FeatureRows,
    k: int,
    *,
    first_row: int | NDArray[np.int64] = 0,
    second_row: int | NDArray[np.int64] = 0,
    known: tuple[TopK | None, TopK | None] = (None, None),
    least: tuple[NDArray[np.float32] | None, NDArray[np.float32] | None] = (None, None),
    tiling: Tiling = Tiling(),
    products: Products = "auto",
    ledger: Ledger | None = None,
) -> tuple[TopK, TopK]:
    """Find the `k` best rows of `second` `[M, D]` for every row of `first` `[N, D]`, and the
    reverse.

    The result equals two calls of `topk.search`, in less than half the time of one, because each
    tile updates both sides. `first_row` and `second_row` are the numbers of the first rows in a
    common set, or the numbers of all rows. To build the neighbors of a whole set, combine this
    function with `neighbors` of each part and `topk.merge`. `known` holds, for each side, neighbors
    outside the other side; they compete with the new ones. Rows with many known neighbors cost
    little more than the products. If `least` is given for both sides, these pairs lower its values.
    The other parameters are those of `neighbors`.

    >>> x = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    >>> there, back = between(x[:1], x[1:], 1, second_row=1)
    >>> there.rows.ravel(), back.rows.ravel()
    (array([1]), array([0, 0]))
    """
    one, other = as_rows(first), as_rows(second)
    if (least[0] is None) != (least[1] is None):
        raise ValueError("least scores are wanted of both sides, or of neither")
    if one.dimension != other.dimension:
        raise ValueError(f"rows of {one.dimension} and {other.dimension} dimensions do not compare")
    device = take_device(products, tiling)
    tiling = tiling.for_gpu() if device else tiling
    coded = not device and take_codes(
        products, one.dimension, len(one) * len(other), len(one) + len(other)
    )
    ledger = ledger or Ledger()
    with tiling.workers() as run:
        a, first_ends = _side(
            one, first_row, tiling.even_block(len(one)), k, len(other), known[0], least[0], coded,
            device, run,
        )  # fmt: skip
        b, second_ends = _side(
            other, second_row, tiling.even_block(len(other)), k, len(one), known[1], least[1],
            coded, device, run,
        )  # fmt: skip
        fold = Fold(products, ledger=ledger)
        course = Course(a, first_ends, b, second_ends, products)
        course.begin(run)

        def offer(tile: Tile) -> tuple[int, int]:
            return offer_to_both(tile, first_ends, second_ends, False)

        def work(x: int, y: int) -> None:
            course.go_on()
            if not _offer_halves(a, x, first_ends, b, y, second_ends, ledger):
                fold(a, x, b, y, offer)

        run_tiles(work, course.over(rectangle(len(a), len(b)), apart=len(a)), run)
        return (
            _finish(a, first_ends, b, second_ends, known[0], tiling, fold, run),
            _finish(b, second_ends, a, first_ends, known[1], tiling, fold, run),
        )


def _side(
    rows: FeatureRows,
    first_row: int | NDArray[np.int64],
    size: int,
    k: int,
    others: int,
    known: TopK | None,
    least: NDArray[np.float32] | None,
    coded: bool,
    device: str | None,
    run: Run,
) -> tuple[Side, Ends]:
    """Prepare a side that will meet `others` rows."""
    count = len(rows)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if known is not None and len(known) != count:
        raise ValueError(f"known neighbors of {len(known)} rows do not go with {count} rows")
    if least is None:
        least = np.empty(0, np.float32)
    elif least.shape != (count,) or least.dtype != np.float32:
        raise ValueError(
            f"least must be float32 [{count}], not {least.dtype} {list(least.shape)}: one for each"
            " row"
        )
    numbers = np.arange(count) + first_row if isinstance(first_row, int) else first_row
    whole = rows.read(0, count)
    side = make_side(
        whole, size, run,
        name="row", numbers=numbers, shortest=_SHORTEST, coded=coded, gathered=True,
        device=device,
    )  # fmt: skip
    k = min(k, others + (known.k if known else 0))
    scores = np.full((count, k), -np.inf, np.float32)
    found = np.full((count, k), -1, np.int64)
    if known:
        # A row sorted worst first is a heap.
        count_known = min(k, known.k)
        scores[:, k - count_known :] = known.scores[:, :count_known][:, ::-1]
        found[:, k - count_known :] = known.rows[:, :count_known][:, ::-1]
    return side, Ends(read_only(whole), numbers, scores, found, least)


def _finish(
    side: Side,
    ends: Ends,
    other: Side,
    others: Ends,
    known: TopK | None,
    tiling: Tiling,
    fold: Fold,
    run: Run,
) -> TopK:
    """Return the lists of one side; search again for rows whose guess was too high."""
    k = ends.scores.shape[1]
    short = fell_short(ends)
    if len(short):
        size = tiling.even_block(len(short))
        short_side = Side(ends.features[short], side.lengths[short], size, coded=True)
        code_like(short_side, other, run)
        again, asked = TopK.none(len(short), k), read_only(short_side.features)
        itself = short if side is other else np.full(len(short), -1)

        def offer(tile: Tile) -> tuple[int, int]:
            primed = prime(tile, asked, others.features, again.scores, again.rows)
            done, scored = offer_tile(
                tile, asked, others.features, 0, itself, again.scores, again.rows
            )
            return done, primed + scored

        def search_block(x: int, _stop: int) -> None:
            for y in range(len(other)):
                fold(short_side, x, other, y, offer, patient=y == 0)

        run(search_block, blocks(len(short_side), 1))
        found = best_first(again.scores, others.numbers[again.rows], k)
        if known:
            found = merge([found, TopK(known.scores[short], known.rows[short])], k)
        ends.scores[short], ends.rows[short] = found.scores, found.rows
    return best_first(ends.scores, ends.rows, k)


def _offer_halves(
    first: Side,
    x: int,
    ends: Ends,
    second: Side,
    y: int,
    others: Ends,
    ledger: Ledger,
    *,
    diagonal: bool = False,
) -> bool:
    """Offer the pairs of a tile that its float16 rows nominate.

    Return False if there are no float16 rows or too many pairs; the caller then uses codes or
    float32.
    """
    if first.halves is None or second.halves is None:
        return False
    rows, columns = first.places(x), second.places(y)
    pairs = nominate(
        first.halves, x, second.halves, y,
        _standing(ends, rows, diagonal), _standing(others, columns, diagonal), diagonal=diagonal,
    )  # fmt: skip
    if pairs is None:
        return False
    ledger.add(Account(halves=len(rows) * len(columns), scored=len(pairs)))
    _offer_pairs(rows[pairs[:, 0]], columns[pairs[:, 1]], ends, others)
    return True


def _standing(ends: Ends, places: NDArray[np.int64], itself: bool) -> Standing:
    least = ends.least[places] if len(ends.least) else ends.least
    return Standing(ends.scores[places, 0], least, ends.scores.shape[1], itself)


@njit(nogil=True, cache=True)
def _offer_pairs(
    rows: NDArray[np.int64], columns: NDArray[np.int64], first: Ends, second: Ends
) -> None:
    """Offer the pairs of `rows` and `columns` `[P]` to the lists of both rows."""
    for p in range(rows.shape[0]):
        i, j = rows[p], columns[p]
        exact = score(first.features[i], second.features[j])
        push(first.scores[i], first.rows[i], exact, second.numbers[j])
        push(second.scores[j], second.rows[j], exact, first.numbers[i])
        if first.least.shape[0] > 0:
            first.least[i] = min(first.least[i], exact)
            second.least[j] = min(second.least[j], exact)
