"""How far the farthest row of every row is, exactly, over the upper triangle of tiles."""

import threading

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Product, Tiling, as_rows, blocks
from pipeline.core.kernels import at_least, first_bit, longest, product_slack, score


def least_scores(
    rows: NDArray[np.float32] | FeatureRows,
    *,
    part: tuple[int, int] | None = None,
    chunk: int = 65_536,
    tiling: Tiling | None = None,
) -> NDArray[np.float32]:
    """The least `kernels.score` `[N]` of every row of `rows` `[N, D]` with another row of them.

    inf where there is no other. A tile feeds its rows and its columns, so only pairs on one side of
    the diagonal are multiplied: `part` limits the columns to a run of rows, and the elementwise
    minimum (`np.minimum`) joins the parts, in any order. Memory is `chunk` x D and a tile in each
    thread; every chunk reads the rows behind it once.

    >>> least_scores(np.array([[1, 0], [0, 1], [0, -1]], np.float32))
    array([ 0., -1., -1.], dtype=float32)
    """
    rows = as_rows(rows)
    tiling = tiling or Tiling()
    first, last = part or (0, len(rows))
    # The least score is found as the greatest score with the opposite row: a sign loses no bit.
    best = np.full(len(rows), -np.inf, np.float32)
    product, merging = Product(), threading.Lock()
    with tiling.workers() as run:
        for begin, end in blocks(last, chunk):
            opposite = -rows.read(begin, end)
            reach = longest(opposite)
            for start, stop in blocks(last, tiling.gallery_block, max(first, begin)):
                block = rows.read(start, stop)
                slack = product_slack(rows.dimension, reach, longest(block))

                def lift(
                    a: int,
                    b: int,
                    block: NDArray[np.float32] = block,
                    opposite: NDArray[np.float32] = opposite,
                    start: int = start,
                    stop: int = stop,
                    begin: int = begin,
                    slack: np.float32 = slack,
                ) -> None:
                    diagonal = begin + a - start  # the column of the first row
                    left = max(0, diagonal)
                    tile = product(opposite[a:b], block[left:])
                    of_rows, of_columns = best[begin + a : begin + b], best[start + left : stop]
                    with merging:
                        new_rows, new_columns = of_rows.copy(), of_columns.copy()
                    _lift(
                        tile, opposite[a:b], block[left:], diagonal - left, slack,
                        new_rows, new_columns,
                    )  # fmt: skip
                    with merging:
                        np.maximum(of_rows, new_rows, out=of_rows)
                        np.maximum(of_columns, new_columns, out=of_columns)

                # Rows behind the last column meet this block as columns.
                run(lift, blocks(min(end, stop) - begin, tiling.query_block))
    return np.float32(0) - best  # and no -0


@njit(nogil=True, cache=True)
def _lift(
    tile: NDArray[np.float32],
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
    itself: int,
    slack: np.float32,
    best_rows: NDArray[np.float32],
    best_columns: NDArray[np.float32],
) -> None:
    """Raise the best score of a tile's rows and columns by its pairs; row i is no pair of column
    `itself + i`. Only pairs whose product comes within `slack` of a best get their `score`.
    """
    width = columns.shape[0]
    # The least best of each run of 64 columns: what lies below it raises none of them.
    least = np.empty((width + 63) // 64, np.float32)
    for run in range(least.shape[0]):
        least[run] = best_columns[64 * run : 64 * run + 64].min()
    for i in range(tile.shape[0]):
        line = tile[i]
        for run in range(least.shape[0]):
            raised = False
            near = at_least(line, 64 * run, min(best_rows[i], least[run]) - slack)
            while near != 0:
                column = 64 * run + first_bit(near)
                near &= near - np.uint64(1)
                most = line[column] + slack
                if column == itself + i or not (most > best_rows[i] or most > best_columns[column]):
                    continue
                exact = score(rows[i], columns[column])
                best_rows[i] = max(best_rows[i], exact)
                if exact > best_columns[column]:
                    best_columns[column] = exact
                    raised = True
            if raised:
                least[run] = best_columns[64 * run : 64 * run + 64].min()
