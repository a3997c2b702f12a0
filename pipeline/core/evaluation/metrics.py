"""Compute CMC, AP in both definitions, and INP from rank counts."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.core.evaluation.ranking import RankCounts


@dataclass(frozen=True)
class Summary:
    """Retrieval metrics over the valid queries; every mean is NaN if no query is valid.

    `cmc[r - 1]` float64 `[R]` is the share of valid queries whose first match has rank <= r.
    `rank1` (1 if the first row is a match), `average_precision` (non-interpolated),
    `average_precision_trapezoid` and `inverse_negative_penalty` are per query, float64 `[Q]`, and
    NaN for invalid queries. `first_rank` int64 `[Q]` is 0 for invalid queries.
    """

    queries: int
    valid: int
    cmc: NDArray[np.float64]
    rank1: NDArray[np.float64]
    average_precision: NDArray[np.float64]
    average_precision_trapezoid: NDArray[np.float64]
    inverse_negative_penalty: NDArray[np.float64]
    first_rank: NDArray[np.int64]

    @property
    def invalid(self) -> int:
        """The number of queries without a match among their kept rows; the means exclude them."""
        return self.queries - self.valid

    @property
    def mean_ap(self) -> float:
        """mAP, non-interpolated (fast-reid, torchreid, reid-strong-baseline)."""
        return self._mean(self.average_precision)

    @property
    def mean_ap_trapezoid(self) -> float:
        """mAP by the trapezoid rule (layumi, PyRetri, the Market-1501 code)."""
        return self._mean(self.average_precision_trapezoid)

    @property
    def mean_inp(self) -> float:
        """mINP."""
        return self._mean(self.inverse_negative_penalty)

    def _mean(self, values: NDArray[np.float64]) -> float:
        return float(np.nansum(values) / self.valid) if self.valid else float("nan")


def summarize(counts: RankCounts, gallery_size: int, *, max_rank: int = 50) -> Summary:
    """Compute the metrics of ranked matches in a gallery of `gallery_size` rows.

    Let a query's matches have the ranks R_1 < ... < R_n. CMC at r is 1 if R_1 <= r. AP is the mean
    of i / R_i. Trapezoid AP is the mean of ((i - 1) / (R_i - 1) + i / R_i) / 2, where the first
    quotient is 1 if R_i = 1 (Philbin et al., CVPR 2007, as in the Market-1501 code). INP is n / R_n
    (Ye et al., TPAMI 2021). The CMC curve ends at `max_rank` or at the gallery's size, whichever is
    less.

    >>> one = RankCounts(np.array([0, 2]), np.array([4, 7]), np.array([0.9, 0.8], np.float32),
    ...                  np.array([0, 1]))
    >>> summary = summarize(one, 10)
    >>> summary.average_precision, summary.inverse_negative_penalty
    (array([0.83333333]), array([0.66666667]))
    """
    if max_rank < 1:
        raise ValueError(f"max_rank must be at least 1, not {max_rank}")
    total = len(counts)
    sizes = np.diff(counts.offsets)
    valid = sizes > 0
    starts = counts.offsets[:-1][valid]
    rank = counts.ranks()
    hit = np.arange(1, len(rank) + 1) - np.repeat(counts.offsets[:-1], sizes)
    before = np.where(rank == 1, 1.0, (hit - 1) / np.maximum(rank - 1, 1))
    first = np.zeros(total, np.int64)
    first[valid] = rank[starts]
    last = np.full(total, np.nan)
    last[valid] = sizes[valid] / rank[counts.offsets[1:][valid] - 1]
    return Summary(
        queries=total,
        valid=int(valid.sum()),
        cmc=_curve(first[valid], min(max_rank, gallery_size)),
        rank1=np.where(valid, first == 1, np.nan),
        average_precision=_mean_by_query(hit / rank, counts.offsets, valid),
        average_precision_trapezoid=_mean_by_query(
            (before + hit / rank) / 2, counts.offsets, valid
        ),
        inverse_negative_penalty=last,
        first_rank=first,
    )


def with_draws(
    summary: Summary, first_ranks: NDArray[np.int64], length: int, *, max_rank: int = 50
) -> Summary:
    """Replace CMC and rank-1 of the summary by those over R draws with `first_ranks` `[R, Q]`.

    `length` is the length of a list in a draw. AP and INP stay those of the whole list (see
    `single_shot`).
    """
    valid = summary.first_rank > 0
    rank1 = np.where(valid, (first_ranks == 1).mean(axis=0), np.nan)
    curve = _curve(first_ranks[:, valid].ravel(), min(max_rank, length))
    return replace(summary, cmc=curve, rank1=rank1)


def _curve(first: NDArray[np.int64], length: int) -> NDArray[np.float64]:
    """The share `[length]` of first matches at each rank or before; NaN without any."""
    if not len(first):
        return np.full(length, np.nan)
    reached = np.bincount(first[first <= length], minlength=length + 1)[1:]
    return np.cumsum(reached) / len(first)


def _mean_by_query(
    values: NDArray[np.float64], offsets: NDArray[np.int64], valid: NDArray[np.bool_]
) -> NDArray[np.float64]:
    means = np.full(len(valid), np.nan)
    if valid.any():
        # Invalid queries have no values, so the starts of the valid ones divide all values into
        # runs.
        sums = np.add.reduceat(values, offsets[:-1][valid])
        means[valid] = sums / np.diff(offsets)[valid]
    return means
