"""Count each query's negative pairs that reach each of several thresholds: exact, in one pass."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, as_rows, blocks
from pipeline.core.evaluation.labels import DISTRACTOR, JUNK, Labels
from pipeline.core.float_products import Product
from pipeline.core.products.kernels import longest, product_slack, score
from pipeline.core.products.masks import at_least, first_bit
from pipeline.core.sweep import sweep


def negatives_of(own: NDArray[np.int64], gallery: Labels) -> NDArray[np.int64]:
    """The number `[Q]` of kept gallery rows with another identity than each of the identities
    `[Q]`.
    """
    kept = np.sort(gallery.identity[gallery.identity != JUNK])
    same = np.searchsorted(kept, own, "right") - np.searchsorted(kept, own, "left")
    return (len(kept) - same).astype(np.int64)


def false_matches(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    thresholds: NDArray[np.float64],
    *,
    tiling: Tiling = Tiling(),
) -> NDArray[np.int64]:
    """Count the negatives of each query with an identity that reach each threshold, int64 `[Q, T]`.

    The counts are exact. `thresholds` must ascend. This takes one pass over the gallery; most pairs
    below the first threshold cost only one comparison of a product. Raise ValueError for features
    that are not finite.

    >>> three = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    >>> false_matches(three[:1], Labels(np.array([7]), np.array([0])),
    ...               three, Labels(np.array([7, 0, 5]), np.array([1, 1, 1])), np.array([-1, 0.5]))
    array([[2, 1]])
    """
    queries, gallery = as_rows(queries), as_rows(gallery)
    asked = np.flatnonzero(query_labels.identity > DISTRACTOR)
    wanted, own = queries.take(asked), query_labels.identity[asked]
    counts = np.zeros((len(wanted), len(thresholds)), np.int64)
    product, reach = Product(), _reach(wanted, "query")

    def enter(start: int, stop: int, block: NDArray[np.float32]) -> _Block:
        slack = product_slack(gallery.dimension, reach, _reach(block, "gallery"))
        return _Block(block, gallery_labels.identity[start:stop], slack)

    def take(block: _Block, a: int, b: int) -> None:
        tile = product(wanted[a:b], block.features)
        _count_tile(tile, wanted[a:b], *block, own[a:b], thresholds, counts[a:b])

    passing = blocks(len(gallery), tiling.gallery_block)
    with tiling.workers() as run:
        sweep(passing, gallery.read, enter, (len(wanted), tiling.query_block), take, run)
    return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]


class _Block(NamedTuple):
    """Rows of the gallery, their identities, and the greatest error of products with them."""

    features: NDArray[np.float32]
    identity: NDArray[np.int64]
    slack: np.float32


def _reach(rows: NDArray[np.float32], what: str) -> float:
    reach = longest(rows)
    # With a slack of NaN, no pair would reach the threshold.
    if not np.isfinite(reach):
        raise ValueError(f"{what} features must be finite")
    return reach


@njit(nogil=True, cache=True)
def _count_tile(
    tile: NDArray[np.float32],
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    identity: NDArray[np.int64],
    slack: np.float32,
    own: NDArray[np.int64],
    thresholds: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> None:
    """Count each negative of a tile at the greatest threshold that it reaches."""
    least = np.float32(thresholds[0]) - slack
    for i in range(tile.shape[0]):
        line = tile[i]
        for start in range(0, line.shape[0], 64):
            near = at_least(line, start, least)
            while near != 0:
                column = start + first_bit(near)
                near &= near - np.uint64(1)
                if identity[column] == own[i] or identity[column] == JUNK:
                    continue
                exact = np.float64(score(queries[i], gallery[column]))
                place = np.searchsorted(thresholds, exact, "right") - 1
                if place >= 0:
                    counts[i, place] += 1
