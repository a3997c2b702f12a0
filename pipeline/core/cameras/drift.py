"""Detect a shift in the scores of a camera, with an interval."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.evaluation.bootstrap import Bootstrap

FEWEST_GROUPS = 20
"""The least number of groups on each side: with fewer, a bootstrap makes the interval too
narrow.
"""


@dataclass(frozen=True)
class Shift:
    """The mean score of earlier rows and of the newest, and the interval of the difference (newest
    less earlier).

    `is_certain` is true if the interval excludes 0.
    """

    before: float
    now: float
    low: float
    high: float

    @property
    def is_certain(self) -> bool:
        """Whether the difference is significant at the level of the interval."""
        return self.low > 0 or self.high < 0


def level_scores(features: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean cosine similarity of each feature `[N, D]` with `others` `[M, D]`.

    If the others are of one camera at other times, nearly all of them are other people. Then the
    mean is the level of the scores that must not match; a threshold lies above it.

    >>> level_scores(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)).tolist()
    [0.5, 0.5]
    """
    return features.astype(np.float64) @ others.astype(np.float64).mean(axis=0)


def mean_shift(
    before: NDArray[np.float64],
    now: NDArray[np.float64],
    before_groups: NDArray[np.int64],
    now_groups: NDArray[np.int64],
    settings: Bootstrap,
) -> Shift | None:
    """The shift of the mean of scores from `before` `[M]` to `now` `[N]`.

    Rows of one group (a tracklet) depend on each other, so whole groups are drawn with replacement,
    on both sides (cluster bootstrap; Davison and Hinkley, Bootstrap Methods and their Application,
    1997, section 3.8). The interval's ends are quantiles of the differences of the replicates'
    means. Return None if a side has fewer than `FEWEST_GROUPS` groups.

    >>> groups = np.arange(40)
    >>> shift = mean_shift(np.zeros(40), np.full(40, 0.5), groups, groups, Bootstrap(100))
    >>> (shift.before, shift.now, shift.low, shift.high, shift.is_certain)
    (0.0, 0.5, 0.5, 0.5, True)
    """
    random = np.random.default_rng(settings.seed)
    means = []
    for scores, groups in ((before, before_groups), (now, now_groups)):
        _, group = np.unique(groups, return_inverse=True)
        count = int(group.max(initial=-1)) + 1
        if count < FEWEST_GROUPS:
            return None
        sums, sizes = np.bincount(group, scores), np.bincount(group)
        drawn = random.multinomial(count, np.full(count, 1 / count), size=settings.replicates)
        means.append((drawn @ sums) / (drawn @ sizes))
    tail = (1 - settings.level) / 2
    low, high = np.quantile(means[1] - means[0], [tail, 1 - tail])
    return Shift(float(before.mean()), float(now.mean()), float(low), float(high))
