"""The fuzzy neighbor graph of UMAP: how much each pair of rows belongs together.

McInnes, Healy and Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension
Reduction" (arXiv 1802.03426, 2018), sections 3.1 and 4.1. The distance of two rows is d = 1 - s,
where s is their cosine similarity. With rho_i as the least distance of row i to a neighbor that is
above 0, and k as the number of its neighbors:

    v_ij  = exp(-max(0, d_ij - rho_i) / sigma_i), where sigma_i makes the sum over j log2(k + 1)
    w_ij  = v_ij + v_ji - v_ij v_ji

The paper's n counts the row itself among its neighbors, so n = k + 1.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.neighbors.topk import TopK
from pipeline.core.reranking.reciprocal import SparseRows

_ROWS_AT_ONCE = 8192
_TURNS = 64
_CLOSE_ENOUGH = 1e-5
# A bandwidth is at least this part of the mean distance, so that weights do not vanish.
_LEAST_BANDWIDTH = 1e-3


def memberships(near: TopK, *, tiling: Tiling = Tiling()) -> NDArray[np.float32]:
    """The weight v float32 `[N, k]` of each neighbor of each row, from 0 to 1; 0 for padding.

    `near` holds the k best neighbors of every row, a row not counted among its own.

    >>> near = TopK(np.array([[0.9, 0.8, 0.5]], np.float32), np.array([[1, 2, 3]]))
    >>> memberships(near).round(2)
    array([[1.  , 0.72, 0.28]], dtype=float32)
    """
    real = near.rows >= 0
    out = np.zeros(near.rows.shape, np.float32)
    count = int(real.sum())
    if count == 0:
        return out
    scores = np.where(real, near.scores, 1)
    mean = float(np.maximum(1 - scores.astype(np.float64), 0).sum()) / (count + len(near))
    with tiling.workers() as run:
        run(
            lambda a, b: _weigh(near.scores[a:b], near.rows[a:b], mean, out[a:b]),
            blocks(len(near), _ROWS_AT_ONCE),
        )
    return out


def fuzzy_weights(near: TopK, *, tiling: Tiling = Tiling()) -> SparseRows:
    """The symmetric weights w of N rows, from their k best neighbors: at most 2 N k entries.

    Memory is 12 bytes for each neighbor in `near` and about three times that for the result.
    ValueError if `near` names a row that it has no neighbors of.

    >>> near = TopK(np.array([[0.9], [0.9], [0.5]], np.float32), np.array([[1], [0], [0]]))
    >>> made = fuzzy_weights(near)
    >>> made.starts, made.columns, made.values
    (array([0, 2, 3, 4]), array([1, 2, 0, 0], dtype=int32), array([1., 1., 1., 1.], dtype=float32))
    """
    if len(near) and int(near.rows.max(initial=-1)) >= len(near):
        raise ValueError(f"a neighbor is row {near.rows.max()}, and there are {len(near)} rows")
    one_way = memberships(near, tiling=tiling)
    starts = np.append(0, np.cumsum(_degrees(near.rows)))
    columns, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    _join(near.rows, one_way, starts, columns, values)
    with tiling.workers() as run:
        run(
            lambda a, b: _sort_columns(starts[a : b + 1], columns, values),
            blocks(len(near), _ROWS_AT_ONCE),
        )
    return SparseRows(starts, columns, values)


@njit(nogil=True, cache=True)
def _weigh(
    scores: NDArray[np.float32], rows: NDArray[np.int64], mean: float, out: NDArray[np.float32]
) -> None:
    """Write the weights of the neighbors of some rows; `mean` is that of all distances."""
    distances = np.empty(scores.shape[1], np.float64)
    for i in range(scores.shape[0]):
        size, nearest, total = 0, np.inf, 0.0
        for x in range(scores.shape[1]):
            if rows[i, x] < 0:
                break
            distances[x] = max(0.0, 1.0 - np.float64(scores[i, x]))
            total += distances[x]
            if distances[x] > 0:
                nearest = min(nearest, distances[x])
            size += 1
        if size == 0:
            continue
        rho = 0.0 if nearest == np.inf else nearest
        least = total / (size + 1) if rho > 0 else mean
        sigma = max(_bandwidth(distances[:size], rho), _LEAST_BANDWIDTH * least)
        for x in range(size):
            beyond = distances[x] - rho
            out[i, x] = 1.0 if beyond <= 0 or sigma == 0 else np.exp(-beyond / sigma)


@njit(nogil=True, cache=True)
def _bandwidth(distances: NDArray[np.float64], rho: float) -> float:
    """The sigma at which the weights of a row add up to log2(k + 1), by bisection."""
    wanted = np.log2(distances.shape[0] + 1.0)
    low, high, sigma = 0.0, np.inf, 1.0
    for _ in range(_TURNS):
        total = 0.0
        for d in distances:
            total += np.exp(-(d - rho) / sigma) if d > rho else 1.0
        if abs(total - wanted) < _CLOSE_ENOUGH:
            break
        if total > wanted:
            high = sigma
            sigma = (low + high) / 2
        else:
            low = sigma
            sigma = 2 * sigma if high == np.inf else (low + high) / 2
    return sigma


@njit(nogil=True, cache=True)
def _place_of(row: int, rows: NDArray[np.int64]) -> int:
    """The place of a row in a list of neighbors; -1 if it is not there."""
    for x in range(rows.shape[0]):
        if rows[x] == row:
            return x
    return -1


@njit(nogil=True, cache=True)
def _degrees(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number `[N]` of rows that have each row as a neighbor, or are neighbors of it."""
    out = np.zeros(rows.shape[0], np.int64)
    for i in range(rows.shape[0]):
        for x in range(rows.shape[1]):
            j = rows[i, x]
            if j >= 0:
                out[i] += 1
                out[j] += _place_of(i, rows[j]) < 0
    return out


@njit(nogil=True, cache=True)
def _join(
    rows: NDArray[np.int64],
    one_way: NDArray[np.float32],
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
) -> None:
    """Write the weights of both directions, joined, to both rows of each pair."""
    ends = starts[:-1].copy()
    for i in range(rows.shape[0]):
        for x in range(rows.shape[1]):
            j = rows[i, x]
            if j < 0:
                continue
            ours = np.float64(one_way[i, x])
            back = _place_of(i, rows[j])
            theirs = np.float64(one_way[j, back]) if back >= 0 else 0.0
            columns[ends[i]] = j
            values[ends[i]] = ours + theirs - ours * theirs
            ends[i] += 1
            if back < 0:
                columns[ends[j]] = i
                values[ends[j]] = ours
                ends[j] += 1


@njit(nogil=True, cache=True)
def _sort_columns(
    starts: NDArray[np.int64], columns: NDArray[np.int32], values: NDArray[np.float32]
) -> None:
    """Sort the entries of some rows by column."""
    for i in range(starts.shape[0] - 1):
        own = slice(starts[i], starts[i + 1])
        order = np.argsort(columns[own])
        sorted_columns, sorted_values = columns[own][order], values[own][order]
        for x in range(order.shape[0]):
            columns[starts[i] + x], values[starts[i] + x] = sorted_columns[x], sorted_values[x]
