"""Bootstrap confidence intervals of means over queries."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Bootstrap:
    """The settings of an interval: its `level`, the number of `replicates`, and the `seed`."""

    replicates: int = 1000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.replicates < 1:
            raise ValueError(f"replicates must be at least 1, not {self.replicates}")
        if not 0 < self.level < 1:
            raise ValueError(f"a confidence level lies between 0 and 1, not {self.level}")
        if self.seed < 0:
            raise ValueError(f"a seed is at least 0, not {self.seed}")


@dataclass(frozen=True)
class Interval:
    """An interval from `low` to `high`; raise ValueError if `high` is less than `low`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"an interval from {self.low} to {self.high} ends before it begins")


def intervals(values: NDArray[np.float64], settings: Bootstrap) -> NDArray[np.float64]:
    """Percentile intervals `[K, 2]` of the K means of `values` `[K, Q]` over Q queries.

    Each replicate draws Q queries with replacement and takes the means over them. All K figures use
    the same draws, and so do all `values` of Q queries with the same seed. The ends of the interval
    are the quantiles (1 - level) / 2 and (1 + level) / 2 of the replicates' means, with linear
    interpolation (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3).
    Queries count as independent. Without queries the result is NaN.

    >>> intervals(np.array([[1.0, 1.0, 1.0]]), Bootstrap(replicates=10))
    array([[1., 1.]])
    """
    queries = values.shape[1]
    if not queries:
        return np.full((len(values), 2), np.nan)
    random = np.random.default_rng(settings.seed)
    means = np.empty((len(values), settings.replicates))
    for replicate in range(settings.replicates):
        drawn = np.bincount(random.integers(0, queries, queries), minlength=queries)
        means[:, replicate] = (values * drawn).sum(axis=1) / queries
    tail = (1 - settings.level) / 2
    return np.quantile(means, [tail, 1 - tail], axis=1).T
