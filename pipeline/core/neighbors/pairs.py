"""The k best rows for every row, exactly, of one set or between two: the neighbor graph.

Similarity is symmetric, so every pair is computed once, and each tile feeds its rows and its
columns. Tiles are products of int8 codes, which only nominate pairs: those that their bound cannot
exclude get their `score`. Where the codes exclude too little (rows nearly alike), tiles are float32
products. What is found is the same to the bit either way. The same tiles give the least score of
every row, where it is wanted: how far the farthest row is.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, as_rows, blocks
from pipeline.core.ledger import Account, Ledger
from pipeline.core.neighbors.topk import TopK, best_first, merge, offer_tile, prime, push
from pipeline.core.products.choosing import code_like
from pipeline.core.products.course import Course, Ends, fell_short
from pipeline.core.products.half_rows import Standing, nominate
from pipeline.core.products.int8_codes import Run
from pipeline.core.products.kernels import row_scores_at, score, score_at
from pipeline.core.products.masks import at_least_either, at_most_either, first_bit
from pipeline.core.products.schedule import rectangle, run_tiles, triangle
from pipeline.core.products.tiles import (
    Fold,
    Products,
    Side,
    Tile,
    far_reach,
    far_threshold,
    make_side,
    reach,
    take_codes,
    take_device,
    threshold,
)

_SHORTEST = 1e-18
"""No score of rows that are longer underflows."""

_STRIP = 16
"""Rows of a tile that meet one run of 64 columns after another, so that both stay in the cache. It
divides 64, so that the diagonal crosses a strip in one run.
"""


def neighbors(
    features: NDArray[np.float32] | FeatureRows,
    k: int,
    *,
    first_row: int | NDArray[np.int64] = 0,
    known: TopK | None = None,
    least: NDArray[np.float32] | None = None,
    tiling: Tiling | None = None,
    products: Products = "auto",
    ledger: Ledger | None = None,
) -> TopK:
    """The `k` best other rows for every row of `features` `[N, D]`: exact, ties by row.

    Equal to `topk.search(features, features, k, self_offset=0)`, in less than half the time.
    `first_row` is the number of the first row, where the features are part of a set, or the numbers
    `[N]` of all. What is `known`, neighbors among rows outside the features, takes part. Where
    `least` float32 `[N]` is given, each of its values is lowered to the least score of the row with
    another of the features.

    Tiles are squares of the smaller of the tiling's blocks. `products` are of int8 codes, of all
    dimensions or the principal ones, or float32; `auto` takes int8 where the processor has
    instructions for it, and float32 for as long as codes nominate too many pairs. Where the tiling
    has a GPU, it takes float16 there. The `ledger` is told which were made. Memory is the features,
    up to half of that for the codes, N x k, and a tile in each thread. ValueError names a row that
    is not finite or has length 0.

    >>> x = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    >>> least = np.full(3, np.inf, np.float32)
    >>> neighbors(x, 1, least=least).rows.ravel()
    array([1, 2, 1])
    >>> least
    array([0. , 0.6, 0. ], dtype=float32)
    """
    rows = as_rows(features)
    tiling = tiling or Tiling()
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
                if x == y:
                    prime(tile, ends.scores)
                return _offer_tile(tile, ends, ends, x == y)

            course.go_on()
            if not _offer_halves(side, x, ends, side, y, ends, ledger, diagonal=x == y):
                # On the diagonal the heaps begin empty, which says nothing about the codes.
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
    tiling: Tiling | None = None,
    products: Products = "auto",
    ledger: Ledger | None = None,
) -> tuple[TopK, TopK]:
    """The `k` best rows of `second` `[M, D]` for every row of `first` `[N, D]`, and the reverse.

    Equal to two calls of `topk.search`, in less than half the time of one: each tile feeds both.
    `first_row` and `second_row` are the numbers of their first rows in the set that both are part
    of, or of all their rows. With `neighbors` of each part and `topk.merge`, this makes up the
    neighbors of the whole set. What is `known` of either side, neighbors that are not in the
    other one, takes part; rows of which much is known cost little more than the products. `least`
    of both sides, where given, is lowered by their pairs. The rest is as in `neighbors`.

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
    tiling = tiling or Tiling()
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
            return _offer_tile(tile, first_ends, second_ends, False)

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
    """Make a side that is to meet `others` rows."""
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
        name="row", numbers=numbers, shortest=_SHORTEST, coded=coded, device=device,
    )  # fmt: skip
    k = min(k, others + (known.k if known else 0))
    scores = np.full((count, k), -np.inf, np.float32)
    found = np.full((count, k), -1, np.int64)
    if known:
        # Worst first, a sorted row is a heap.
        held = min(k, known.k)
        scores[:, k - held :] = known.scores[:, :held][:, ::-1]
        found[:, k - held :] = known.rows[:, :held][:, ::-1]
    return side, Ends(whole, numbers, scores, found, least)


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
    """The lists of one side; those of rows that fell short of what was guessed, from the start."""
    k = ends.scores.shape[1]
    short = fell_short(ends)
    if len(short):
        size = tiling.even_block(len(short))
        asked = Side(ends.features[short], side.lengths[short], size, coded=True)
        code_like(asked, other, run)
        again = TopK.none(len(short), k)
        itself = short if side is other else np.full(len(short), -1)

        def offer(tile: Tile) -> tuple[int, int]:
            prime(tile, again.scores)
            return offer_tile(
                tile, asked.features, other.features, 0, itself, again.scores, again.rows
            )

        def search_block(x: int, _stop: int) -> None:
            for y in range(len(other)):
                fold(asked, x, other, y, offer, patient=y == 0)

        run(search_block, blocks(len(asked), 1))
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
    """Offer the pairs of a tile that its halves nominate; not where there are none, or too many."""
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
    """Offer the pairs of `rows` and `columns` `[P]` to both of their ends."""
    for p in range(rows.shape[0]):
        i, j = rows[p], columns[p]
        exact = score(first.features[i], second.features[j])
        push(first.scores[i], first.rows[i], exact, second.numbers[j])
        push(second.scores[j], second.rows[j], exact, first.numbers[i])
        if first.least.shape[0] > 0:
            first.least[i] = min(first.least[i], exact)
            second.least[j] = min(second.least[j], exact)


@njit(nogil=True, cache=True)
def _offer_tile(tile: Tile, first: Ends, second: Ends, diagonal: bool) -> tuple[int, int]:
    """Offer the pairs of a tile to both of their ends, or some; gives the rows offered whole, and
    the pairs scored.

    Only pairs that may reach the root of a heap, or be the least of a row where that is wanted, get
    their `score`. In a tile on the `diagonal`, only what lies above it counts.
    """
    height, width = tile.values.shape
    kind, distant = tile.values.dtype, first.least.shape[0] > 0
    values, rows, columns = tile.values, tile.rows, tile.columns
    row_tails, column_tails = tile.row_tails, tile.column_tails
    if row_tails.shape[0] == 0:
        row_tails, column_tails = np.zeros(height, np.float32), np.zeros(width, np.float32)
    longest_row, longest_column = row_tails.max(), column_tails.max()
    # What a value must reach, or not exceed, to count for its row or its column.
    near_rows, far_rows = np.empty(height, kind), np.empty(height, kind)
    near_columns, far_columns = np.empty(width, kind), np.empty(width, kind)
    for c in range(width):
        near_columns[c] = threshold(second.scores[columns[c], 0], tile)
        if distant:
            least = second.least[columns[c]]
            far_columns[c] = far_threshold(least, column_tails[c], longest_row, tile)
    marked, found = np.empty((_STRIP, width), np.int64), np.empty(_STRIP, np.int64)
    four, exact = np.empty(4, np.int64), np.empty(4, np.float32)
    scored = 0
    for top in range(0, height, _STRIP):
        if scored > tile.most:
            return top, scored
        bottom = min(top + _STRIP, height)
        for r in range(top, bottom):
            near_rows[r] = threshold(first.scores[rows[r], 0], tile)
            if distant:
                far_rows[r] = far_threshold(
                    first.least[rows[r]], row_tails[r], longest_column, tile
                )
            found[r - top] = 0
        for start in range(top // 64 * 64 if diagonal else 0, width, 64):
            for r in range(top, bottom):
                mask = at_least_either(values[r], start, near_rows[r], near_columns)
                if distant:
                    mask |= at_most_either(values[r], start, far_rows[r], far_columns)
                if diagonal and start <= r:
                    mask &= ~((np.uint64(2) << np.uint64(r - start)) - np.uint64(1))
                while mask != 0:
                    marked[r - top, found[r - top]] = start + first_bit(mask)
                    found[r - top] += 1
                    mask &= mask - np.uint64(1)
        for r in range(top, bottom):
            if found[r - top] == 0:
                continue
            scored += _score_marked(
                values[r], rows[r], columns, marked[r - top, : found[r - top]],
                first.features, first.numbers, first.scores, first.rows, first.least,
                second.features, second.numbers, second.scores, second.rows, second.least,
                near_rows[r : r + 1], near_columns, far_rows[r : r + 1], far_columns,
                (tile.slack, tile.per_unit, tile.limit),
                row_tails[r], column_tails, longest_row, longest_column, four, exact,
            )  # fmt: skip
    return height, scored


@njit(nogil=True)
def _score_marked(
    line: NDArray[Any],
    i: int,
    places: NDArray[np.int64],
    marked: NDArray[np.int64],
    features: NDArray[np.float32],
    numbers: NDArray[np.int64],
    scores: NDArray[np.float32],
    found: NDArray[np.int64],
    least: NDArray[np.float32],
    their_features: NDArray[np.float32],
    their_numbers: NDArray[np.int64],
    their_scores: NDArray[np.float32],
    their_found: NDArray[np.int64],
    their_least: NDArray[np.float32],
    near_row: NDArray[Any],
    near: NDArray[Any],
    far_row: NDArray[Any],
    far: NDArray[Any],
    of_tile: tuple[float, float, float],
    tail: np.float32,
    tails: NDArray[np.float32],
    longest_row: np.float32,
    longest_column: np.float32,
    four: NDArray[np.int64],
    exact: NDArray[np.float32],
) -> int:
    """Score what is `marked` of the `line` of row `i` and still counts, four pairs at a time, and
    offer it to both ends; gives how many were scored. `four` and `exact` `[4]` are room for them.

    The arrays come one by one: each time that a tuple of them is passed, all of them are counted.
    """
    dimension, distant = features.shape[1], least.shape[0] > 0
    size = 4 * dimension
    row, base = features.ctypes.data + size * i, their_features.ctypes.data
    scored = held = 0
    for place in range(marked.shape[0]):
        c = marked[place]
        counts = line[c] >= near_row[0] or line[c] >= near[c]
        if distant and not counts:
            counts = line[c] <= far_row[0] or line[c] <= far[c]
        if counts:
            four[held] = c
            held += 1
        if held < 4 and place + 1 < marked.shape[0]:
            continue
        if held == 4:
            exact[0], exact[1], exact[2], exact[3] = row_scores_at(
                row, base + size * places[four[0]], base + size * places[four[1]],
                base + size * places[four[2]], base + size * places[four[3]], dimension,
            )  # fmt: skip
        else:
            for each in range(held):
                exact[each] = score_at(row, base + size * places[four[each]], dimension)
        for each in range(held):
            c, value = four[each], exact[each]
            j = places[c]
            if value >= scores[i, 0]:
                push(scores[i], found[i], value, their_numbers[j])
                near_row[0] = reach(scores[i, 0], of_tile)
            if value >= their_scores[j, 0]:
                push(their_scores[j], their_found[j], value, numbers[i])
                near[c] = reach(their_scores[j, 0], of_tile)
            if distant and value < least[i]:
                least[i] = value
                far_row[0] = far_reach(value, tail, longest_column, of_tile)
            if distant and value < their_least[j]:
                their_least[j] = value
                far[c] = far_reach(value, tails[c], longest_row, of_tile)
        scored, held = scored + held, 0
    return scored
