"""Find the similarity threshold at which two crops count as the same identity, with its
uncertainty.

Pairs are not independent: the similarities of all pairs of one identity rise and fall together.
Therefore intervals come from resampling the query identities with all of their pairs (the subsets
bootstrap of Bolle, Ratha and Pankanti, CVIU 93, 2004). The gallery is not resampled.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, Tiling, as_rows, blocks
from pipeline.core.evaluation.bootstrap import Bootstrap, Interval
from pipeline.core.evaluation.labels import DISTRACTOR, NO_CAMERA, Labels
from pipeline.core.evaluation.ranking import RankCounts, matches
from pipeline.core.thresholds.false_matches import false_matches, negatives_of
from pipeline.core.thresholds.negatives import count_negatives, margin
from pipeline.core.thresholds.open_set import settle_rates

FEWEST_FALSE_MATCHES = 30
"""The least number of false matches that a threshold may rest on: the rule of 30 (Doddington et
al., Speech Communication 31, 2000). If the pairs were independent, the true rate would be within 30
% of the measured one nine times in ten.
"""

_STEPS = 512
_FINEST = 1e-6
_WIDEST = 16  # thresholds are searched up to this multiple of the target rate
_COARSE = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5)  # rates of a curve beyond these
_CURVE = 48  # points of a curve within them
_BEYOND = 1.001  # no similarity of unit vectors reaches this, even with rounding
_AT_ONCE = 50


@dataclass(frozen=True)
class FarRule:
    """Choose the least similarity at which at most a share `far` of the negative pairs match.

    Raise ValueError for a share that is not between 0 and 1.
    """

    far: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 < self.far < 1:
            raise ValueError(f"a false-match rate lies between 0 and 1, not {self.far}")


@dataclass(frozen=True)
class PercentileRule:
    """Choose the similarity of vectors whose distance is `factor` times a percentile of the
    distances within identities.

    Distances are Euclidean, between unit vectors: d^2 = 2 - 2 s. Raise ValueError for a percentile
    outside 0 to 100 and for a factor that is not positive.
    """

    percentile: float = 95.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise ValueError(f"a percentile lies above 0 and up to 100, not {self.percentile}")
        if not 0 < self.factor < float("inf"):
            raise ValueError(f"the factor must be positive, not {self.factor}")


@dataclass(frozen=True)
class RatePoint:
    """The share of negative pairs that reach a threshold."""

    threshold: float
    far: float


@dataclass(frozen=True)
class Threshold:
    """A threshold, and the shares of negative pairs (`far`) and positive pairs (`tar`) it accepts.

    `threshold_interval` is the range of the thresholds that the rule chooses in the resamples.
    `far_interval` and `tar_interval` are the ranges of the shares that `threshold` itself accepts
    in them. `identities` is the number of identities of the queries. `curve` has the rates of other
    thresholds, ascending: for the far rule up to a rate of 0.5, for the percentile rule in steps.
    """

    threshold: float
    threshold_interval: Interval
    far: float
    far_interval: Interval
    false_matches: int
    tar: float
    tar_interval: Interval
    positives: int
    negatives: int
    identities: int
    curve: tuple[RatePoint, ...] = ()


def calibrate(
    queries: NDArray[np.float32] | FeatureRows,
    query_labels: Labels,
    gallery: NDArray[np.float32] | FeatureRows,
    gallery_labels: Labels,
    rule: FarRule | PercentileRule,
    resampling: Bootstrap | None = None,
    *,
    tiling: Tiling = Tiling(),
) -> Threshold | None:
    """Find the threshold of a rule over all pairs of a query with an identity and a row kept for
    it.

    Positives are the pairs of `ranking.matches`; negatives are all others except junk. Return None
    without a positive pair, without a negative pair, and with too few negatives to measure the
    rate. All features must be unit vectors. Memory is Q x D, Q x 1,025 counts, and one tile per
    thread.
    """
    queries, gallery = as_rows(queries), as_rows(gallery)
    found = matches(queries, query_labels, gallery, gallery_labels)
    asked = np.flatnonzero(query_labels.identity > DISTRACTOR)
    totals = negatives_of(query_labels.identity[asked], gallery_labels)
    if not len(found.rows) or not totals.sum():
        return None

    def reached(edges: NDArray[np.float64]) -> NDArray[np.int64]:
        return false_matches(queries, query_labels, gallery, gallery_labels, edges, tiling=tiling)

    names, owner = np.unique(query_labels.identity[asked], return_inverse=True)
    by_query = np.repeat(np.arange(len(found)), np.diff(found.offsets))
    positive_owner = owner[np.searchsorted(asked, by_query)]
    order = np.argsort(-found.scores, kind="stable")
    scores = found.scores[order].astype(np.float64)
    pairs = _Pairs(len(names), owner, totals, scores, positive_owner[order])
    if isinstance(rule, PercentileRule):
        point = pairs.at_percentile(rule, np.ones(len(names), np.int64))
        beyond: tuple[RatePoint, ...] = ()
        edges = np.unique([*np.linspace(max(-1.0, point - 0.5), _BEYOND, _STEPS // 2), point])
    else:
        ends = _ends(queries, query_labels, gallery, gallery_labels, found, rule, tiling)
        if ends is None:
            return None
        point, least, beyond = ends
        edges = _around(point, least)
    chosen = _resampled(pairs, rule, point, edges, reached, resampling or Bootstrap())
    curve = {*beyond, *chosen.curve, RatePoint(chosen.threshold, chosen.far)}
    return replace(chosen, curve=tuple(sorted(curve, key=_by_threshold)))


@dataclass(frozen=True)
class _Pairs:
    """The pairs of every query identity, numbered from 0.

    `owner` `[Q]` is the identity of each query, and `negatives` `[Q]` is its number of negative
    pairs. `positives` float64 `[P]` are the similarities of the positive pairs, descending, and
    `positive_owner` `[P]` their identities.
    """

    identities: int
    owner: NDArray[np.int64]
    negatives: NDArray[np.int64]
    positives: NDArray[np.float64]
    positive_owner: NDArray[np.int64]

    def at_percentile(self, rule: PercentileRule, weights: NDArray[np.int64]) -> float:
        """The threshold of the percentile rule; each identity counts `weights` `[I]` times."""
        cumulated = np.cumsum(weights[self.positive_owner])
        if cumulated[-1] == 0:
            return float("nan")
        place = np.searchsorted(cumulated, rule.percentile / 100 * cumulated[-1], "left")
        squared = max(0.0, 2 - 2 * float(self.positives[place])) * rule.factor**2
        return max(-1.0, 1 - squared / 2)

    def positives_reaching(self, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
        """The number of positives of each identity that reach each threshold, int64 `[I, T]`."""
        place = np.searchsorted(thresholds, self.positives, "right") - 1
        counts = np.zeros((self.identities, len(thresholds)), np.int64)
        reached = place >= 0
        np.add.at(counts, (self.positive_owner[reached], place[reached]), 1)
        return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]

    def by_identity(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Add up values of queries `[Q, ...]` by identity `[I, ...]`."""
        total = np.zeros((self.identities, *values.shape[1:]), np.int64)
        np.add.at(total, self.owner, values)
        return total


def against_itself(labels: Labels) -> Labels:
    """The labels of a set that is compared with itself: each row of unknown camera gets a camera of
    its own.

    Otherwise a row would be its own match, because an unknown camera equals no camera, not even
    itself.

    >>> against_itself(Labels(np.array([7, 7]), np.array([3, NO_CAMERA]))).camera
    array([3, 5])
    """
    unknown = labels.camera == NO_CAMERA
    apart = labels.camera.max(initial=NO_CAMERA) + 1 + np.arange(len(labels))
    return Labels(labels.identity, np.where(unknown, apart, labels.camera))


def sample_identities(identity: NDArray[np.int64], rows: int, seed: int) -> NDArray[np.int64]:
    """The ascending positions of all rows of some random identities: at most `rows`, or one
    identity.

    Identities are taken in a random order given by `seed` until the next one would exceed the
    limit. Rows without an identity are not taken.
    """
    names, owner, sizes = np.unique(
        identity[identity > DISTRACTOR], return_inverse=True, return_counts=True
    )
    order = np.random.default_rng(seed).permutation(len(names))
    fit = max(1, int(np.searchsorted(np.cumsum(sizes[order]), rows, "right")))
    taken = np.zeros(len(names), bool)
    taken[order[:fit]] = True
    return np.flatnonzero(identity > DISTRACTOR)[taken[owner]]


def _ends(
    queries: FeatureRows,
    query_labels: Labels,
    gallery: FeatureRows,
    gallery_labels: Labels,
    found: RankCounts,
    rule: FarRule,
    tiling: Tiling,
) -> tuple[float, float, tuple[RatePoint, ...]] | None:
    """The threshold at the target rate, the one at the highest rate that resamples may need, and
    points of the curve at higher rates.
    """
    widest = max(rule.far, min(0.5, _WIDEST * rule.far))
    rates = [rule.far, widest, *(each for each in _COARSE if each > widest)]
    figures = settle_rates(
        found.scores,
        lambda settled: count_negatives(
            queries, query_labels, gallery, gallery_labels, settled, tiling=tiling
        ),
        margin(gallery.dimension),
        rates,
    )
    if figures is None:
        return None
    first, last, *others = figures.points
    if first.threshold is None or last.threshold is None:
        return None
    beyond = tuple(
        RatePoint(each.threshold, each.far)
        for each in others
        if each.threshold is not None and each.far is not None and each.threshold < last.threshold
    )
    return first.threshold, last.threshold, beyond


def _around(point: float, least: float) -> NDArray[np.float64]:
    """The thresholds that resamples may choose, ascending, from `least` to 1.

    They are denser near `point`, so that the width of an interval is accurate to a few hundredths.
    """
    share = np.geomspace(_FINEST, 1, _STEPS)
    return np.unique(
        [*(point - (point - least) * share), point, *(point + (_BEYOND - point) * share)]
    )


def _resampled(
    pairs: _Pairs,
    rule: FarRule | PercentileRule,
    point: float,
    edges: NDArray[np.float64],
    reached: Callable[[NDArray[np.float64]], NDArray[np.int64]],
    resampling: Bootstrap,
) -> Threshold:
    """The figures of the threshold `point`, one of `edges`, with their intervals."""
    # float64 counts exactly up to 2^53, and its products are faster than those of integers.
    false = pairs.by_identity(reached(edges)).astype(np.float64)
    true = pairs.positives_reaching(edges).astype(np.float64)
    negatives, positives = (
        pairs.by_identity(pairs.negatives),
        np.bincount(pairs.positive_owner, minlength=pairs.identities),
    )
    at = int(np.searchsorted(edges, point))
    rng = np.random.default_rng(resampling.seed)
    thresholds, fars, tars = [], [], []
    for start, stop in blocks(resampling.replicates, _AT_ONCE):
        chances = np.full(pairs.identities, 1 / pairs.identities)
        weights = rng.multinomial(pairs.identities, chances, size=stop - start)
        with np.errstate(invalid="ignore", divide="ignore"):
            far = (weights @ false) / (weights @ negatives)[:, None]
            tars.append((weights @ true[:, at]) / (weights @ positives))
        fars.append(far[:, at])
        if isinstance(rule, PercentileRule):
            thresholds.append(np.array([pairs.at_percentile(rule, each) for each in weights]))
        else:
            least = edges[(far <= rule.far).argmax(axis=1)]
            # If a resample has no negative pair, no threshold is the least.
            thresholds.append(np.where(np.isnan(far[:, at]), np.nan, least))
    return Threshold(
        threshold=point,
        threshold_interval=_middle(thresholds, resampling),
        far=float(false[:, at].sum() / negatives.sum()),
        far_interval=_middle(fars, resampling),
        false_matches=int(false[:, at].sum()),
        tar=float(true[:, at].sum() / positives.sum()),
        tar_interval=_middle(tars, resampling),
        positives=int(positives.sum()),
        negatives=int(negatives.sum()),
        identities=pairs.identities,
        curve=_curve(edges, false.sum(axis=0) / negatives.sum()),
    )


def _curve(edges: NDArray[np.float64], rates: NDArray[np.float64]) -> tuple[RatePoint, ...]:
    """Some of the thresholds, ascending, whose rates are about evenly far apart as logarithms.

    >>> _curve(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.5, 0.5, 0.1, 0.0]))[0]
    RatePoint(threshold=0.1, far=0.5)
    """
    above = rates[rates > 0]
    if not len(above):
        return (RatePoint(float(edges[0]), 0.0),)
    wanted = np.geomspace(above[0], above[-1], _CURVE)
    # Rounding must not lose the ends.
    wanted[0], wanted[-1] = above[0], above[-1]
    places = np.unique([*(rates <= wanted[:, None]).argmax(axis=1), len(above)])
    return tuple(
        RatePoint(float(edges[n]), float(rates[n])) for n in places.tolist() if n < len(edges)
    )


def _by_threshold(point: RatePoint) -> float:
    return point.threshold


def _middle(values: list[NDArray[np.float64]], resampling: Bootstrap) -> Interval:
    """The interval that leaves out as many samples below as above; samples without a value do not
    count.
    """
    out = 50 * (1 - resampling.level)
    low, high = np.nanpercentile(np.concatenate(values), [out, 100 - out])
    return Interval(float(low), float(high))
