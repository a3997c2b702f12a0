"""Whether a network that was adapted to an archive recognizes people as well as it did before.

Both networks score the same pairs. For each, a threshold is chosen on the negative pairs at one
false-match rate (FMR), and the true-match rate (TMR) is the share of positive pairs that reach it.
Pairs of one tracklet rise and fall together, so the interval of the difference comes from
resampling tracklets with all of their pairs (the subsets bootstrap of Bolle, Ratha and Pankanti,
CVIU 93, 2004), the same ones for both networks; thresholds are chosen anew in every resample.
"""

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.evaluation.bootstrap import Bootstrap, Interval

_ROUNDING = 1e-9  # of a rate times a number of pairs that is whole in exact arithmetic


@dataclass(frozen=True)
class AcceptanceRule:
    """A network is accepted if its TMR at the false-match rate `fmr` did not fall by `max_loss`.

    More exactly: if the lower end of the interval of the difference lies above -`max_loss`. Raise
    ValueError for a rate outside 0 to 1 (exclusive), and for a loss outside 0 to 1.
    """

    fmr: float = 1e-3
    max_loss: float = 0.01
    resampling: Bootstrap = field(default=Bootstrap(), metadata={"json": "bootstrap"})

    def __post_init__(self) -> None:
        if not 0 < self.fmr < 1:
            raise ValueError(f"a false-match rate lies between 0 and 1, not {self.fmr}")
        if not 0 <= self.max_loss < 1:
            raise ValueError(f"the greatest loss lies from 0 to below 1, not {self.max_loss}")


@dataclass(frozen=True)
class PairScores:
    """Similarities that one network gives: `positives` float32 `[P]` and `negatives` float32 `[N]`.

    Raise ValueError if there are none of one kind, or for numbers that are not finite.
    """

    positives: NDArray[np.float32]
    negatives: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, values in (("positives", self.positives), ("negatives", self.negatives)):
            if not len(values) or not np.isfinite(values).all():
                raise ValueError(f"{name} must be one finite number or more")


@dataclass(frozen=True)
class PairGroups:
    """The tracklet of each pair, by number from 0: `positives` int64 `[P]`, `negatives` `[N]`."""

    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]

    def __post_init__(self) -> None:
        if min(self.positives.min(initial=0), self.negatives.min(initial=0)) < 0:
            raise ValueError("a group of pairs has a number from 0")

    def __len__(self) -> int:
        return 1 + max(self.positives.max(initial=-1), self.negatives.max(initial=-1))


@dataclass(frozen=True)
class TrueMatchRate:
    """The share `tmr` of positive pairs whose similarity is at least `threshold`.

    `false_matches` negative pairs reach it, too.
    """

    tmr: float
    threshold: float
    false_matches: int


@dataclass(frozen=True)
class Acceptance:
    """The true-match rates of two networks, and the interval of their difference.

    `fmr` is the false-match rate of the rule, or 1 / `negatives` where that is larger: the finest
    rate that so many pairs can show. `tracklets` counts the groups of the positive pairs.
    """

    rule: AcceptanceRule = field(metadata={"json": "acceptance_rule"})
    fmr: float
    positives: int
    negatives: int
    tracklets: int
    before: TrueMatchRate = field(metadata={"json": "rate_before"})
    after: TrueMatchRate = field(metadata={"json": "rate_after"})
    interval: Interval

    @property
    def difference(self) -> float:
        """TMR after, less TMR before."""
        return self.after.tmr - self.before.tmr

    @property
    def accepted(self) -> bool:
        """Whether the network after is good enough."""
        return self.interval.low > -self.rule.max_loss


def judge_networks(
    before: PairScores,
    after: PairScores,
    groups: PairGroups,
    rule: AcceptanceRule = AcceptanceRule(),
) -> Acceptance:
    """Compare two networks by their scores of the same pairs, in the same order.

    The threshold of a network is the least float32 number that at most `fmr` of the negatives
    reach. Each resample draws as many tracklets as there are, with replacement, and takes all of
    their pairs; without a positive or a negative pair it does not count, and if none counts, the
    interval is from -1 to 1. ValueError if scores do not go with the groups.

    >>> scores = PairScores(np.array([0.9, 0.4], np.float32), np.array([0.5, 0.1], np.float32))
    >>> better = PairScores(np.array([0.9, 0.7], np.float32), np.array([0.5, 0.1], np.float32))
    >>> found = judge_networks(scores, better, PairGroups(np.array([0, 1]), np.array([0, 1])),
    ...                        AcceptanceRule(fmr=0.4, resampling=Bootstrap(10)))
    >>> found.fmr, found.before.tmr, found.after.tmr, found.accepted
    (0.5, 1.0, 1.0, True)
    """
    for scores in (before, after):
        if len(scores.positives) != len(groups.positives) or len(scores.negatives) != len(
            groups.negatives
        ):
            raise ValueError(
                f"{len(groups.positives)} positive and {len(groups.negatives)} negative pairs do"
                f" not go with {len(scores.positives)} and {len(scores.negatives)} scores"
            )
    fmr = max(rule.fmr, 1 / len(before.negatives))
    networks = [_Sorted.of(scores, groups) for scores in (before, after)]
    sizes = [np.bincount(each, minlength=len(groups)) for each in (groups.positives,
                                                                   groups.negatives)]  # fmt: skip
    every = np.ones(len(groups), np.int64)
    points = [_point(network, every, sizes, fmr) for network in networks]
    random = np.random.default_rng(rule.resampling.seed)
    differences = []
    for _ in range(rule.resampling.replicates):
        drawn = np.bincount(random.integers(0, len(groups), len(groups)), minlength=len(groups))
        if all(drawn @ size for size in sizes):
            first, second = (_point(network, drawn, sizes, fmr).tmr for network in networks)
            differences.append(second - first)
    tail = (1 - rule.resampling.level) / 2
    low, high = np.quantile(differences or [-1.0, 1.0], [tail, 1 - tail])
    return Acceptance(
        rule=rule,
        fmr=fmr,
        positives=len(groups.positives),
        negatives=len(groups.negatives),
        tracklets=int((sizes[0] > 0).sum()),
        before=points[0],
        after=points[1],
        interval=Interval(float(low), float(high)),
    )


@dataclass(frozen=True)
class _Sorted:
    """The scores of one network with their groups, descending."""

    positives: NDArray[np.float32]
    positive_groups: NDArray[np.int64]
    negatives: NDArray[np.float32]
    negative_groups: NDArray[np.int64]

    @classmethod
    def of(cls, scores: PairScores, groups: PairGroups) -> "_Sorted":
        positive = np.argsort(-scores.positives, kind="stable")
        negative = np.argsort(-scores.negatives, kind="stable")
        return cls(
            scores.positives[positive].astype(np.float32), groups.positives[positive],
            scores.negatives[negative].astype(np.float32), groups.negatives[negative],
        )  # fmt: skip


def _point(
    network: _Sorted, weights: NDArray[np.int64], sizes: list[NDArray[np.int64]], fmr: float
) -> TrueMatchRate:
    """The true-match rate where each group counts `weights` `[T]` times."""
    positives, negatives = (int(weights @ size) for size in sizes)
    allowed = int(negatives * fmr + _ROUNDING)
    matched, wrong, limit = _matched(
        network.positives, network.positive_groups, network.negatives, network.negative_groups,
        weights, allowed,
    )  # fmt: skip
    threshold = np.nextafter(np.float32(limit), np.float32(np.inf))
    return TrueMatchRate(matched / positives, float(threshold), wrong)


@njit(nogil=True, cache=True)
def _matched(
    positives: NDArray[np.float32],
    positive_groups: NDArray[np.int64],
    negatives: NDArray[np.float32],
    negative_groups: NDArray[np.int64],
    weights: NDArray[np.int64],
    allowed: int,
) -> tuple[int, int, float]:
    """The positives and negatives above a limit: the best negative that must not match."""
    seen, limit = 0, np.float32(-np.inf)
    for pair in range(negatives.shape[0]):
        seen += weights[negative_groups[pair]]
        if seen > allowed:
            limit = negatives[pair]
            break
    wrong = 0
    for pair in range(negatives.shape[0]):
        if negatives[pair] <= limit:
            break
        wrong += weights[negative_groups[pair]]
    matched = 0
    for pair in range(positives.shape[0]):
        if positives[pair] <= limit:
            break
        matched += weights[positive_groups[pair]]
    return matched, wrong, float(limit)
