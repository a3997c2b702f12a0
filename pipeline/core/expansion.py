"""Alpha query expansion: replace a row by the weighted mean of itself and its nearest rows.

Chum et al., "Total Recall" (ICCV 2007), for the plain mean; Radenovic et al., "Fine-tuning CNN
image retrieval with no human annotation" (TPAMI 2019), for the weights s^alpha.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import ArrayRows, FeatureRows, Tiling, as_rows, blocks
from pipeline.core.neighbors.topk import TopK, search
from pipeline.core.products.kernels import read_only

ExpansionMode = Literal["query", "database", "joint"]

_GATHERED_AT_ONCE = 1024


@dataclass(frozen=True)
class Expansion:
    """The settings of an expansion.

    `mode` selects the rows to expand: `query` expands the queries by gallery rows, `database`
    expands the gallery rows by each other, and `joint` expands both over their union. `k` includes
    the row itself. `alpha` is the power of the similarity that weights a neighbor (0: plain mean).
    `times` is the number of rounds; each round works on the vectors of the round before.
    """

    mode: ExpansionMode = "joint"
    k: int = 10
    alpha: float = 3.0
    times: int = 1

    def __post_init__(self) -> None:
        if self.mode not in ("query", "database", "joint"):
            raise ValueError(f"mode must be query, database or joint, not {self.mode!r}")
        if self.k < 1:
            raise ValueError(f"k counts the row itself, so it must be at least 1, not {self.k}")
        if not 0 <= self.alpha < float("inf"):
            raise ValueError(f"alpha must be a finite number from 0, not {self.alpha}")
        if self.times < 1:
            raise ValueError(f"times must be at least 1, not {self.times}")

    @property
    def name(self) -> str:
        """The name of the figures; it always includes the mode."""
        return f"aqe {self.mode}"


def expand(
    rows: NDArray[np.float32] | FeatureRows,
    among: NDArray[np.float32] | FeatureRows,
    settings: Expansion,
    *,
    self_offset: int | None = None,
    part: tuple[int, int] | None = None,
    chunk: int = 8192,
    tiling: Tiling = Tiling(),
) -> Iterator[NDArray[np.float32]]:
    """Run one round of expansion of `rows` `[N, D]` by their nearest rows of `among` `[M, D]`.

    Yield the expanded rows in order, at most `chunk` at a time. Each chunk takes one pass over
    `among`, so memory is one chunk, and one tile per thread. If `rows` are rows of `among`,
    `self_offset` is the position of the first of them there. `part` limits the rows to expand. All
    features must be unit vectors.

    >>> x = np.array([[1, 0], [0.6, 0.8]], np.float32)
    >>> next(expand(x, x, Expansion(k=2, alpha=0), self_offset=0)).round(3)
    array([[0.894, 0.447],
           [0.894, 0.447]], dtype=float32)
    """
    rows, among = as_rows(rows), as_rows(among)
    first, last = part or (0, len(rows))
    for start, stop in blocks(last, chunk, first):
        block = rows.read(start, stop)
        if settings.k == 1:
            yield block
            continue
        offset = None if self_offset is None else self_offset + start
        found = search(block, among, settings.k - 1, self_offset=offset, tiling=tiling)
        yield average(block, found, among, settings.alpha, tiling=tiling)


def average(
    rows: NDArray[np.float32],
    found: TopK,
    among: FeatureRows,
    alpha: float,
    *,
    tiling: Tiling = Tiling(),
) -> NDArray[np.float32]:
    """The unit-length weighted means `[N, D]` of `rows` and their neighbors `found`.

    A row has weight 1, a neighbor max(similarity, 0)^alpha. Sums are in float64, best neighbor
    first. A row stays unchanged if its mean has no direction because the neighbors cancel it.
    """
    out = np.empty_like(rows)

    def fold(start: int, stop: int) -> None:
        matrix, places = _gathered(found.rows[start:stop], among)
        weights = np.clip(found.scores[start:stop].astype(np.float64), 0, None) ** alpha
        own, theirs = read_only(rows[start:stop]), read_only(matrix)
        _weighted_means(own, theirs, read_only(places), weights, out[start:stop])

    with tiling.workers() as run:
        run(fold, blocks(len(rows), _GATHERED_AT_ONCE))
    return out


def _gathered(
    neighbors: NDArray[np.int64], among: FeatureRows
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A matrix with the features of the `neighbors` `[N, k]`, and the place of each in it."""
    if isinstance(among, ArrayRows):
        return among.array, neighbors
    needed, place = np.unique(neighbors[neighbors >= 0], return_inverse=True)
    places = np.full(neighbors.shape, -1, np.int64)
    places[neighbors >= 0] = place
    return among.take(needed), places


@njit(nogil=True, cache=True)
def _weighted_means(
    rows: NDArray[np.float32],
    gathered: NDArray[np.float32],
    local: NDArray[np.int64],
    weights: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    dimension = rows.shape[1]
    total = np.empty(dimension, np.float64)
    for i in range(rows.shape[0]):
        own, mean = rows[i], out[i]
        for t in range(dimension):
            total[t] = own[t]
        for j in range(local.shape[1]):
            if local[i, j] >= 0:
                # Assigned outside the inner loop, so that the compiler vectorizes the loop.
                weight, neighbor = weights[i, j], gathered[local[i, j]]
                for t in range(dimension):
                    total[t] += weight * neighbor[t]
        square = 0.0
        for t in range(dimension):
            square += total[t] * total[t]
        length = np.sqrt(square)
        # Rounding of float32 unit vectors may leave up to 1e-6 of a sum that cancels.
        canceled = length <= 1e-6
        for t in range(dimension):
            mean[t] = own[t] if canceled else np.float32(total[t] / length)
