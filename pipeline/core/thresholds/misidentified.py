"""The pairs that a threshold gets wrong although their labels are known, the worst ones first.

A false accept is a pair of a query with an identity and a kept gallery row of another identity that
reaches the threshold; a false reject is a match that does not. The doubt about a pair is the
distance of its similarity from the threshold. Either the network or a label is wrong, and the more
doubtful the pair is, the more can be learned from it.
"""

import threading
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, as_rows, blocks
from pipeline.core.evaluation.labels import DISTRACTOR, JUNK, NO_CAMERA, Labels, matching_pairs
from pipeline.core.float_products import Product
from pipeline.core.neighbors.heaps import push
from pipeline.core.products.kernels import longest, pair_scores, product_slack, score
from pipeline.core.products.masks import at_least, first_bit
from pipeline.core.sweep import sweep

_PAIRS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Misidentified:
    """Wrong pairs of a query and a gallery row, the most doubtful first, then by query and row.

    `query` int64 `[M]` and `row` int64 `[M]` are positions, `scores` float32 `[M]` similarities.
    `is_match` `[M]` says which pairs are of one identity: those are false rejects. `accepts` and
    `rejects` count all wrong pairs of each kind.
    """

    query: NDArray[np.int64]
    row: NDArray[np.int64]
    scores: NDArray[np.float32]
    is_match: NDArray[np.bool_]
    accepts: int
    rejects: int


def misidentified(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    threshold: float,
    most: int,
    *,
    other_cameras: bool = False,
    tiling: Tiling = Tiling(),
) -> Misidentified:
    """Find the `most` most doubtful false accepts, and as many false rejects.

    With `other_cameras`, pairs of one camera are no false accepts (they are never matches). The
    result is exact, in one pass over the gallery. Memory is that of all matches, of one tile for
    each thread, and of `most` pairs. Raise ValueError for features that are not finite, and if
    `most` is less than 1.

    >>> three = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], np.float32)
    >>> found = misidentified(three[:1], Labels(np.array([7]), np.array([0])),
    ...                       three, Labels(np.array([7, 5, 7]), np.array([0, 1, 1])), 0.7, 10)
    >>> found.row, found.is_match
    (array([1, 2]), array([False,  True]))
    """
    if most < 1:
        raise ValueError(f"`most` must be at least 1, not {most}")
    queries, gallery = as_rows(queries), as_rows(gallery)
    asked = np.flatnonzero(query_labels.identity > DISTRACTOR)
    wanted, labels = queries.take(asked), query_labels.take(asked)
    best = _BestPairs(most)
    product, reach = Product(), _reach(wanted, "query")
    cameras = labels.camera if other_cameras else np.full(len(asked), NO_CAMERA)

    def enter(start: int, stop: int, block: NDArray[np.float32]) -> _Block:
        slack = product_slack(gallery.dimension, reach, _reach(block, "gallery"))
        return _Block(
            block,
            gallery_labels.identity[start:stop],
            gallery_labels.camera[start:stop],
            slack,
            start,
        )

    def take(block: _Block, a: int, b: int) -> None:
        tile = product(wanted[a:b], block.features)
        mine = best.mine()
        mine.total[0] += _offer_accepts(
            tile, wanted[a:b], *block, labels.identity[a:b], cameras[a:b], threshold,
            a, len(gallery), mine.scores, mine.pairs,
        )  # fmt: skip

    passing = blocks(len(gallery), tiling.gallery_block)
    with tiling.workers() as run:
        sweep(passing, gallery.read, enter, (len(wanted), tiling.query_block), take, run)
    accepts, scores, pairs = best.all()
    rejects = _rejects(wanted, labels, gallery, gallery_labels, threshold, most)
    query = np.concatenate([pairs // max(1, len(gallery)), rejects.query])
    row = np.concatenate([pairs % max(1, len(gallery)), rejects.row])
    scores = np.concatenate([scores, rejects.scores])
    is_match = np.arange(len(query)) >= len(pairs)
    order = np.lexsort((row, query, -np.abs(scores.astype(np.float64) - threshold)))
    return Misidentified(
        asked[query[order]], row[order], scores[order], is_match[order], accepts, rejects.total
    )


class _Block(NamedTuple):
    """Rows of the gallery, their labels, the greatest error of products, and the first row."""

    features: NDArray[np.float32]
    identity: NDArray[np.int64]
    camera: NDArray[np.int64]
    slack: np.float32
    start: int


class _Heap(NamedTuple):
    """The best pairs that a thread has met, and the number of all that reach the threshold."""

    scores: NDArray[np.float32]
    pairs: NDArray[np.int64]
    total: NDArray[np.int64]


class _BestPairs:
    """The pairs of the highest scores; each thread has its own heap of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._threads: dict[int, _Heap] = {}

    def mine(self) -> _Heap:
        thread = threading.get_ident()
        if thread not in self._threads:
            self._threads[thread] = _Heap(
                np.full(self._most, -np.inf, np.float32),
                np.full(self._most, -1, np.int64),
                np.zeros(1, np.int64),
            )
        return self._threads[thread]

    def all(self) -> tuple[int, NDArray[np.float32], NDArray[np.int64]]:
        """The number of all pairs, and the best of all threads, unordered."""
        heaps = list(self._threads.values())
        count = sum(int(each.total[0]) for each in heaps)
        scores = np.concatenate([np.empty(0, np.float32), *(each.scores for each in heaps)])
        pairs = np.concatenate([np.empty(0, np.int64), *(each.pairs for each in heaps)])
        order = np.lexsort((pairs, -scores))
        order = order[pairs[order] >= 0][: self._most]
        return count, scores[order], pairs[order]


class _Rejects(NamedTuple):
    """The most doubtful false rejects, and the number of all."""

    query: NDArray[np.int64]
    row: NDArray[np.int64]
    scores: NDArray[np.float32]
    total: int


def _rejects(
    queries: NDArray[np.float32],
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    threshold: float,
    most: int,
) -> _Rejects:
    """The matches below a threshold, by their similarity."""
    owner, rows = matching_pairs(query_labels, gallery_labels)
    scores = np.empty(len(owner), np.float32)
    for start, stop in blocks(len(owner), _PAIRS_AT_ONCE):
        theirs = gallery.take(rows[start:stop])
        places = np.arange(stop - start)
        scores[start:stop] = pair_scores(queries, theirs, owner[start:stop], places)
    below = np.flatnonzero(scores.astype(np.float64) < threshold)
    chosen = below[np.lexsort((rows[below], owner[below], scores[below]))][:most]
    return _Rejects(owner[chosen], rows[chosen], scores[chosen], len(below))


def _reach(rows: NDArray[np.float32], what: str) -> float:
    reach = longest(rows)
    if not np.isfinite(reach):
        raise ValueError(f"{what} features must be finite")
    return reach


@njit(nogil=True, cache=True)
def _offer_accepts(
    tile: NDArray[np.float32],
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    identity: NDArray[np.int64],
    camera: NDArray[np.int64],
    slack: np.float32,
    start: int,
    own: NDArray[np.int64],
    own_camera: NDArray[np.int64],
    threshold: float,
    first: int,
    rows: int,
    scores: NDArray[np.float32],
    pairs: NDArray[np.int64],
) -> int:
    """Offer each false accept of a tile to a heap of pairs; return how many there are.

    A pair is the number of the query times `rows`, plus that of the gallery row.
    """
    count = 0
    least = np.float32(threshold) - slack
    for i in range(tile.shape[0]):
        line = tile[i]
        for begin in range(0, line.shape[0], 64):
            near = at_least(line, begin, least)
            while near != 0:
                column = begin + first_bit(near)
                near &= near - np.uint64(1)
                if identity[column] == own[i] or identity[column] == JUNK:
                    continue
                if own_camera[i] != NO_CAMERA and camera[column] == own_camera[i]:
                    continue
                exact = score(queries[i], gallery[column])
                if np.float64(exact) >= threshold:
                    count += 1
                    push(scores, pairs, exact, (first + i) * rows + start + column)
    return count
