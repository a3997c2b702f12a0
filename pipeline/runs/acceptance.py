"""The acceptance test of an adapted network: the features of one archive before and after."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.blocks import ChosenRows, FeatureRows, Tiling, blocks
from pipeline.core.evaluation.bootstrap import Bootstrap, Interval, intervals
from pipeline.core.products.kernels import pair_scores
from pipeline.core.thresholds.acceptance import (
    Acceptance,
    AcceptanceRule,
    PairScores,
    judge_networks,
)
from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.runs.acceptance_pairs import (
    HELD_OUT,
    Basis,
    ComparedPairs,
    RowIdPairs,
    compared_pairs,
)
from pipeline.runs.self_ranking import KnownPeople

_PAIRS_AT_ONCE = 8192


@dataclass(frozen=True)
class AcceptanceSettings:
    """The test's share of tracklets, and the rule for the result."""

    held_out: float = HELD_OUT
    """Share of tracklets, from 0 to 1, that training does not see."""
    rule: AcceptanceRule = field(default_factory=AcceptanceRule)
    """False-match rate, greatest loss, and resampling."""


@dataclass(frozen=True)
class MeanApChange:
    """mAP before and after, for `queries` rows of known identity against all other rows.

    The `interval` is that of the difference; queries are resampled, the same for both.
    """

    queries: int
    before: float = field(metadata={"json": "mAP_before"})
    after: float = field(metadata={"json": "mAP_after"})
    interval: Interval

    def __str__(self) -> str:
        low, high = 100 * self.interval.low, 100 * self.interval.high
        return (
            f"mAP {100 * self.before:.2f} before and {100 * self.after:.2f} after, a difference of"
            f" {low:+.2f} to {high:+.2f} points, over {self.queries:,} queries"
        )


@dataclass(frozen=True)
class AcceptanceTest:
    """The result of a comparison of two networks on one archive.

    `basis` says of what the pairs are: `tracklets`, or `labels` where the archive has no tracklets
    with times. `mean_ap` is None without labels. `left_out` counts rows that only one of the two
    galleries holds.
    """

    basis: Basis
    rates: Acceptance
    mean_ap: MeanApChange | None = field(metadata={"json": "mAP_change"})
    left_out: int = field(metadata={"json": "rows_left_out"})

    @property
    def accepted(self) -> bool:
        """Whether the network after is good enough."""
        return self.rates.accepted

    @property
    def reason(self) -> str:
        """One sentence about the result, for people."""
        found = self.rates
        low, high, least = (
            100 * each for each in (found.interval.low, found.interval.high, -found.rule.max_loss)
        )
        verdict = "is" if found.accepted else "is not"
        return (
            f"the new network {verdict} accepted: at a false-match rate of {found.fmr:.2g}, it"
            f" finds {found.after.tmr:.1%} of the pairs of one person, and"
            f" {found.before.tmr:.1%} before; the difference lies between {low:+.1f} and"
            f" {high:+.1f} points, and its lower end must lie above {least:+.1f}"
        )


def compare_networks(
    before: Gallery,
    after: Gallery,
    settings: AcceptanceSettings = AcceptanceSettings(),
    *,
    same: RowIdPairs = (),
    different: RowIdPairs = (),
    tiling: Tiling = Tiling(),
) -> AcceptanceTest:
    """Compare two networks by their features of the same rows.

    `before` and `after` are galleries of one archive; rows are the same if their paths are. Pairs
    are those of `compared_pairs` in `before`, whose row ids `same` and `different` name; give only
    verdicts that training did not use. Where rows have identities, mAP is measured, too, with at
    most 2,000 queries. Memory is that of the queries, and of some thousand pairs. InputError if
    there are no such pairs, or if the galleries share no rows.
    """
    pairs = compared_pairs(before, settings.held_out, same=same, different=different)
    places = _places_in(before, after)
    kept = _of_both(pairs, places)
    here, there = before.features(), after.features()
    scores = PairScores(*(_scores(here, each) for each in (kept.positives, kept.negatives)))
    new = PairScores(*(_scores(there, places[each]) for each in (kept.positives, kept.negatives)))
    shared = int((places >= 0).sum())
    return AcceptanceTest(
        basis=pairs.basis,
        rates=judge_networks(scores, new, kept.groups, settings.rule),
        mean_ap=_mean_ap(before, after, places, settings.rule.resampling, tiling),
        left_out=before.count + after.count - 2 * shared,
    )


def _places_in(before: Gallery, after: Gallery) -> NDArray[np.int64]:
    """The position in `after` of each row of `before` `[N]`, by path; -1 where it is not there."""
    paths = [each.rows(["path"])["path"] for each in (before, after)]
    places = pc.fill_null(pc.index_in(paths[0], paths[1].combine_chunks()), -1)
    found = places.to_numpy().astype(np.int64)
    if not (found >= 0).any():
        raise InputError(f"{before.location} and {after.location} hold no row of one path")
    return found


def _of_both(pairs: ComparedPairs, places: NDArray[np.int64]) -> ComparedPairs:
    """The pairs whose rows both galleries hold."""
    positives, negatives = (
        np.all(places[each] >= 0, axis=1) for each in (pairs.positives, pairs.negatives)
    )
    if not positives.any() or not negatives.any():
        raise InputError("the galleries share no pairs of rows by which networks are compared")
    return pairs.take(positives, negatives)


def _scores(features: FeatureRows, pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """The similarity float32 `[P]` of each pair of positions `[P, 2]`."""
    out = np.empty(len(pairs), np.float32)
    by_row = np.argsort(pairs[:, 0], kind="stable")
    for start, stop in blocks(len(pairs), _PAIRS_AT_ONCE):
        some = by_row[start:stop]
        rows, place = np.unique(pairs[some], return_inverse=True)
        place = place.reshape(-1, 2)
        block = features.take(rows)
        out[some] = pair_scores(
            block, block, np.ascontiguousarray(place[:, 0]), np.ascontiguousarray(place[:, 1])
        )
    return out


def _mean_ap(
    before: Gallery,
    after: Gallery,
    places: NDArray[np.int64],
    resampling: Bootstrap,
    tiling: Tiling,
) -> MeanApChange | None:
    """mAP of rows with identities; None if no row has a match under another camera."""
    shared = np.flatnonzero(places >= 0)
    rows = before.rows_at(shared, ["identity", "camera"])
    known = KnownPeople.of(rows, resampling.seed)
    if not known.count:
        return None
    found = [
        known.rank(ChosenRows(gallery.features(), positions), tiling).average_precision
        for gallery, positions in ((before, shared), (after, places[shared]))
    ]
    valid = np.isfinite(found[0])
    first, second = (each[valid] for each in found)
    low, high = intervals((second - first)[None], resampling)[0]
    return MeanApChange(
        len(first), float(first.mean()), float(second.mean()), Interval(float(low), float(high))
    )
