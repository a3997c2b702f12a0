"""Open-set figures: the shares of matches and of other pairs that a threshold accepts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, as_rows
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.ranking import matches
from pipeline.core.thresholds.negatives import (
    BIN,
    EDGES,
    STEPS,
    Negatives,
    count_negatives,
    margin,
    steps,
)

RATES = tuple(float(f"{digit}e-{n}") for n in range(6, 0, -1) for digit in (1, 2, 5))[:-1]
"""The false-accept rates of a full evaluation: 1e-6, 2e-6, 5e-6, 1e-5, ... 0.2."""


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and the shares of negatives (`far`) and positives (`tar`) that reach it.

    `wanted` is the target false-accept rate. `threshold` is the least similarity, in steps of
    2^-24, at which the share of accepted negatives does not exceed the target; `false_accepts` is
    their number. All four are None if `wanted` is less than one negative, because such a rate
    cannot be measured. Raise ValueError if only some are None, or `far` exceeds `wanted`.
    """

    wanted: float
    threshold: float | None = None
    false_accepts: int | None = None
    far: float | None = None
    tar: float | None = None

    def __post_init__(self) -> None:
        measured = (self.threshold, self.false_accepts, self.far, self.tar)
        if len({value is None for value in measured}) > 1:
            raise ValueError(f"the point at {self.wanted:g} is measured in part: {measured}")
        if self.far is not None and self.far > self.wanted:
            raise ValueError(f"FAR {self.far} is above the wanted {self.wanted}")


@dataclass(frozen=True)
class OpenSet:
    """Figures of accepting pairs by a threshold on their similarity; a match is a positive.

    `points` holds one point for each requested rate below 1, ascending. `equal_error_rate` is the
    rate at which the ROC polygon crosses FAR = 1 - TAR. `equal_error_threshold` is the least
    threshold at which the share of rejected positives is not less than the share of accepted
    negatives. Raise ValueError for points out of order, or whose TAR falls.
    """

    positives: int
    negatives: int
    equal_error_rate: float
    equal_error_threshold: float
    points: tuple[OperatingPoint, ...]

    def __post_init__(self) -> None:
        wanted = [point.wanted for point in self.points]
        if wanted != sorted(wanted):
            raise ValueError(f"the wanted rates of the points must ascend, not {wanted}")
        tars = [point.tar for point in self.points if point.tar is not None]
        if tars != sorted(tars):
            raise ValueError(f"TAR falls where FAR may grow: {tars}")


def open_set(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    *,
    rates: Sequence[float] = RATES,
    tiling: Tiling = Tiling(),
) -> OpenSet | None:
    """Compute open-set figures over all pairs of a query with an identity and a row kept for it:
    exact.

    A pair is accepted if its similarity is at least the threshold. Positives are the pairs of
    `ranking.matches`. Negatives are all others except junk, including those of queries without a
    match. Return None if there are no positives or no negatives. Features must be unit vectors.

    >>> four = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], np.float32)
    >>> found = open_set(four[:1], Labels(np.array([7]), np.array([0])),
    ...                  four[1:], Labels(np.array([7, 7, 0]), np.array([1, 2, 1])), rates=[0.5])
    >>> found.equal_error_rate, found.points[0].tar  # of one negative, half cannot be accepted
    (0.0, None)
    """
    queries, gallery = as_rows(queries), as_rows(gallery)
    found = matches(queries, query_labels, gallery, gallery_labels)

    def count(settled: NDArray[np.int64]) -> Negatives:
        return count_negatives(
            queries, query_labels, gallery, gallery_labels, settled, tiling=tiling
        )

    return settle_rates(found.scores, count, margin(gallery.dimension), rates)


def settle_rates(
    positives: NDArray[np.float32],
    count: Callable[[NDArray[np.int64]], Negatives],
    margin: int,
    rates: Sequence[float] = RATES,
) -> OpenSet | None:
    """Compute `open_set` from the positives' scores and a function that counts the negatives.

    The first count shows near which bins the thresholds lie; the second count settles these bins.
    If a threshold lies in another bin after all, further counts settle more bins.
    """
    if not all(0 < rate < 1 for rate in rates):
        raise ValueError(f"false-accept rates lie between 0 and 1, not {list(rates)}")
    if not len(positives):
        return None
    ordered = np.sort(steps(positives))
    settled = np.empty(0, np.int64)
    while True:
        negatives = count(settled)
        if len(negatives) == 0:
            return None
        wanted = _needed_bins(negatives, ordered, rates)
        if np.isin(wanted, settled).all():
            return _figures(negatives, ordered, rates)
        around = wanted[:, None] + np.arange(-margin, margin + 1)
        inside = (around >= 0) & (around < len(negatives.coarse))
        settled = np.union1d(settled, around[inside])


def _allowed(rate: float, negatives: int) -> int:
    """The greatest number of negatives within a share `rate`, which is read as the decimal fraction
    that is written.
    """
    return int(Fraction(repr(float(rate))) * negatives)


def _needed_bins(
    negatives: Negatives, positives: NDArray[np.int64], rates: Sequence[float]
) -> NDArray[np.int64]:
    """The bins that hold, for each rate, the greatest negative to reject, and the equal error."""
    above = negatives.above()
    total = int(above[0])
    allowed = [_allowed(rate, total) for rate in rates]
    holding = [_bin_of_rank(above, number + 1) for number in allowed if number]
    return np.unique([*holding, _equal_error_bin(above, positives)])


def _bin_of_rank(above: NDArray[np.int64], rank: int) -> int:
    """The bin that holds the negative of a rank; rank 1 is the most similar one."""
    return len(above) - 1 - int(np.searchsorted(above[::-1], rank, "left"))


def _equal_error_bin(above: NDArray[np.int64], positives: NDArray[np.int64]) -> int:
    """The last bin at whose first step fewer positives are rejected than negatives accepted."""
    accepted = above / above[0]
    return int(np.flatnonzero(_rejected(positives, EDGES) < accepted)[-1])


def _rejected(positives: NDArray[np.int64], thresholds: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of `positives`, ascending, below each threshold."""
    return np.searchsorted(positives, thresholds, "left") / len(positives)


def _figures(negatives: Negatives, positives: NDArray[np.int64], rates: Sequence[float]) -> OpenSet:
    above, total = negatives.above(), len(negatives)
    ordered = tuple(sorted(rates))
    rate, threshold = _equal_error(negatives, _equal_error_bin(above, positives), positives)
    return OpenSet(
        positives=len(positives),
        negatives=total,
        equal_error_rate=rate,
        equal_error_threshold=threshold / STEPS,
        points=tuple(_point(wanted, negatives, above, positives) for wanted in ordered),
    )


def _point(
    wanted: float,
    negatives: Negatives,
    above: NDArray[np.int64],
    positives: NDArray[np.int64],
) -> OperatingPoint:
    """The operating point one step above the first negative that must be rejected."""
    total = int(above[0])
    allowed = _allowed(wanted, total)
    if not allowed:
        return OperatingPoint(wanted)
    bin_ = _bin_of_rank(above, allowed + 1)
    reached = negatives.reached(bin_)
    step = int(np.flatnonzero(reached > allowed)[-1]) + 1
    threshold = int(EDGES[bin_]) + step
    return OperatingPoint(
        wanted=wanted,
        threshold=threshold / STEPS,
        false_accepts=int(reached[step]),
        far=int(reached[step]) / total,
        tar=int((positives >= threshold).sum()) / len(positives),
    )


def _equal_error(
    negatives: Negatives, bin_: int, positives: NDArray[np.int64]
) -> tuple[float, int]:
    """The equal-error rate, and its threshold in steps.

    Between the two ROC points around FAR = 1 - TAR, the polygon is a straight line.
    """
    thresholds = EDGES[bin_] + np.arange(BIN + 1)
    far = negatives.reached(bin_) / len(negatives)
    excess = _rejected(positives, thresholds) - far
    after = int(np.flatnonzero(excess >= 0)[0])
    share = excess[after] / (excess[after] - excess[after - 1])
    rate = far[after] + share * (far[after - 1] - far[after])
    return float(rate), int(thresholds[after])
