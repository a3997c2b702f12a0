"""The pairs of rows by which two networks are compared, and the tracklets that training must not
see.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from pipeline.core.blocks import evenly
from pipeline.core.evaluation.labels import DISTRACTOR, Labels, matching_pairs
from pipeline.core.thresholds.acceptance import PairGroups
from pipeline.core.thresholds.calibration import against_itself
from pipeline.core.tracklets import groups, is_held_out
from pipeline.errors import InputError
from pipeline.gallery.labels import labels_of
from pipeline.gallery.sidecars.capture_times import moments
from pipeline.runs.union import AnyGallery

HELD_OUT = 0.1
"""The share of tracklets that training does not see."""

FEWEST_TRACKLETS = 10
"""The least number of tracklets, or of people, with positive pairs for an interval."""

_A_TRACKLET = 32
_A_PERSON = 64
_MOST_PAIRS = 200_000
_COLUMNS = ("row_id", "path", "identity", "camera", "captured_at", "frame", "tracklet")

Basis = Literal["tracklets", "labels"]
RowIdPairs = ArrayLike
"""Pairs of row ids `[L, 2]`."""


@dataclass(frozen=True)
class ComparedPairs:
    """Pairs of positions in a gallery: `positives` int64 `[P, 2]` and `negatives` int64 `[N, 2]`.

    `groups` are their tracklets, or their people where `basis` is `labels`.
    """

    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    groups: PairGroups
    basis: Basis

    @property
    def tracklets(self) -> int:
        """The number of tracklets, or people, with positive pairs."""
        return len(np.unique(self.groups.positives))

    @property
    def is_enough(self) -> bool:
        """Whether two networks can be compared by them."""
        return self.tracklets >= FEWEST_TRACKLETS and len(self.negatives) > 0

    def take(self, positives: NDArray[np.bool_], negatives: NDArray[np.bool_]) -> "ComparedPairs":
        """Some of the pairs, by masks."""
        numbers = [self.groups.positives[positives], self.groups.negatives[negatives]]
        return replace(
            self,
            positives=self.positives[positives],
            negatives=self.negatives[negatives],
            groups=_numbered(*numbers),
        )


def held_out_rows(gallery: AnyGallery, share: float = HELD_OUT) -> NDArray[np.bool_]:
    """The rows `[N]`, by position, of those tracklets that training must not see.

    They follow from the names of the tracklets (see `core.tracklets.is_held_out`). A gallery
    without tracklets has none: its networks are compared by labels, which adaptation does not read.
    InputError if `share` does not lie between 0 and 1.
    """
    return _held_out(gallery.rows(["tracklet"])["tracklet"], share)


def compared_pairs(
    gallery: AnyGallery,
    share: float = HELD_OUT,
    *,
    same: RowIdPairs = (),
    different: RowIdPairs = (),
    seed: int = 0,
) -> ComparedPairs:
    """The pairs by which networks are compared on the rows of a gallery.

    Positive are the pairs of the two halves of a held-out tracklet, in the order of time: its first
    box with the first of its second half, and so on, 32 pairs of each tracklet at most. Negative
    are the pairs of a box of a held-out tracklet with another tracklet's box of the same moment
    (one camera at one time). `same` and `different` are pairs of row ids that people have judged;
    those count of which a row is held out, and all where the gallery has no tracklets.

    If there are no negatives, or positives of less than 10 tracklets, known identities take their
    place where 10 people have pairs: positive are then pairs of one person from two cameras,
    negative are random pairs (by `seed`) of two people, and groups are people. Of more than 200,000
    pairs of a kind, so many are taken at even distances. InputError, which says what is missing, if
    neither is there.
    """
    rows = gallery.rows(_COLUMNS)
    held = _held_out(rows["tracklet"], share)
    names = _codes(rows["tracklet"])
    judged = [_positions(rows, same, "same"), _positions(rows, different, "different")]
    if (names >= 0).any():
        judged = [pairs[held[pairs].any(axis=1)] for pairs in judged]
    positives = np.concatenate([_halves(rows, names, held), judged[0]])
    negatives = np.concatenate([_of_one_moment(rows, names, held), judged[1]])
    owner = np.where(names >= 0, names, names.max(initial=-1) + 1 + np.arange(len(names)))
    found = _grouped(positives, negatives, owner, held, "tracklets")
    if found.is_enough:
        return found
    labels = against_itself(labels_of([rows])[0])
    by_people = _grouped(*_by_identity(labels, seed), labels.identity, held & False, "labels")
    if by_people.is_enough:
        return by_people
    raise InputError(_lacking(gallery, found, by_people))


def _grouped(
    positives: NDArray[np.int64],
    negatives: NDArray[np.int64],
    owner: NDArray[np.int64],
    held: NDArray[np.bool_],
    basis: Basis,
) -> ComparedPairs:
    """Pairs of the groups `owner` `[N]` of their held-out rows, or of their first rows."""
    positives, negatives = _thinned(positives), _thinned(negatives)
    owners = [owner[_chosen_end(each, held)] for each in (positives, negatives)]
    return ComparedPairs(positives, negatives, _numbered(*owners), basis)


def _numbered(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> PairGroups:
    """Groups with numbers from 0 without gaps."""
    numbers = np.unique(np.concatenate([positives, negatives]), return_inverse=True)[1]
    return PairGroups(numbers[: len(positives)], numbers[len(positives) :])


def _held_out(tracklets: pa.ChunkedArray, share: float) -> NDArray[np.bool_]:
    if not 0 < share < 1:
        raise InputError(f"the share that is held out lies between 0 and 1, not {share}")
    known = tracklets.drop_null().unique()
    chosen = pa.array([is_held_out(name, share) for name in known.to_pylist()], pa.bool_())
    return np.asarray(pc.fill_null(chosen.take(_place(tracklets, known)), False))


def _place(values: pa.ChunkedArray, known: pa.Array) -> pa.Array:
    return pc.index_in(values, known).combine_chunks()


def _codes(values: pa.ChunkedArray) -> NDArray[np.int64]:
    """A number for every value, -1 for null."""
    place = _place(values, values.drop_null().unique())
    return pc.fill_null(place, -1).to_numpy(zero_copy_only=False).astype(np.int64)


def _positions(rows: pa.Table, pairs: RowIdPairs, name: str) -> NDArray[np.int64]:
    """The positions of pairs of row ids; InputError for an id that no row has."""
    ids = np.asarray(pairs, np.int64).reshape(-1, 2)
    known = rows["row_id"].to_numpy()
    places = np.searchsorted(known, ids)
    wrong = ids[known[np.minimum(places, len(known) - 1)] != ids] if len(known) else ids.ravel()
    if len(wrong):
        raise InputError(f"`{name}` names row {wrong[0]}, which the gallery does not hold")
    return places.astype(np.int64)


def _halves(rows: pa.Table, names: NDArray[np.int64], held: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The pairs of the two halves of every held-out tracklet, in the order of time."""
    time = pc.fill_null(rows["captured_at"].cast(pa.int64()), -1).to_numpy()
    frame = pc.fill_null(rows["frame"], -1).to_numpy()
    by_time = np.lexsort((frame, time))
    order, starts = groups(np.where(held, names, -1)[by_time])
    order, found = by_time[order], []
    for first, last in pairwise(starts.tolist()):
        half = (last - first) // 2
        steps = evenly(half, _A_TRACKLET)
        found.append(np.stack([order[first + steps], order[last - half + steps]], axis=1))
    return np.concatenate([np.empty((0, 2), np.int64), *found])


def _of_one_moment(
    rows: pa.Table, names: NDArray[np.int64], held: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The pairs of a held-out row with a row of another tracklet of its moment, each once."""
    moment = moments(rows)
    order, starts = groups(moment)
    place = np.searchsorted(starts, np.arange(len(order)), "right") - 1
    begin = np.zeros(len(rows), np.int64)
    size = np.zeros(len(rows), np.int64)
    begin[order], size[order] = starts[place], np.diff(starts)[place]
    asked = np.flatnonzero(held & (size > 1))
    if size[asked].sum() > 8 * _MOST_PAIRS:
        asked = asked[evenly(len(asked), 8 * _MOST_PAIRS * len(asked) // size[asked].sum())]
    sizes = size[asked]
    owner = np.repeat(asked, sizes)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    others = order[np.repeat(begin[asked], sizes) + within]
    apart = (names[owner] != names[others]) & ~(held[others] & (others < owner))
    return np.stack([owner[apart], others[apart]], axis=1)


def _by_identity(labels: Labels, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of one person from two cameras, each once, and random pairs of two people."""
    order, starts = groups(np.where(labels.identity > DISTRACTOR, labels.identity, -1))
    each = [
        order[first + evenly(last - first, _A_PERSON)] for first, last in pairwise(starts.tolist())
    ]
    rows = np.sort(np.concatenate([np.empty(0, np.int64), *each]))
    some = labels.take(rows)
    first, second = matching_pairs(some, some)
    positives = np.stack([rows[first], rows[second]], axis=1)[first < second]
    if len(each) < 2:
        return positives, np.empty((0, 2), np.int64)
    drawn = np.random.default_rng(seed).integers(0, len(rows), (_MOST_PAIRS, 2))
    drawn = drawn[some.identity[drawn[:, 0]] != some.identity[drawn[:, 1]]]
    return positives, np.unique(rows[np.sort(drawn, axis=1)], axis=0)


def _chosen_end(pairs: NDArray[np.int64], held: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The row of each pair that is held out, the first if both are or none is."""
    second = ~held[pairs[:, 0]] & held[pairs[:, 1]]
    return np.where(second, pairs[:, 1], pairs[:, 0])


def _thinned(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    return pairs[evenly(len(pairs), _MOST_PAIRS)]


def _lacking(gallery: AnyGallery, by_tracklets: ComparedPairs, by_people: ComparedPairs) -> str:
    """Why networks cannot be compared on this gallery."""
    return (
        f"{gallery.location}: networks cannot be compared here. {by_tracklets.tracklets} held-out"
        f" tracklets or verdicts have two boxes of one person, and {len(by_tracklets.negatives)}"
        " pairs of boxes are of one camera at one moment, one of them held out;"
        f" {by_people.tracklets} people with identities are seen by two cameras. A comparison needs"
        f" {FEWEST_TRACKLETS} tracklets and one such pair, or {FEWEST_TRACKLETS} people: extract"
        " more videos whose boxes have tracks and times, or images with labels, hold out more"
        " tracklets, or give verdicts"
    )
