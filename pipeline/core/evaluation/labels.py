"""The labels of each row, and the junk rule: which rows match, and which are excluded."""

from collections.abc import Sized
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

JUNK = -1
"""The identity of rows that are excluded from every ranking."""

DISTRACTOR = 0
"""The identity of rows that are kept and match nobody, such as rows of unknown identity."""

NO_CAMERA = -1
"""The camera number of rows whose camera is unknown: it equals no camera, not even itself."""

NO_CLOTHES = -1
"""The clothes number of rows whose clothes are unknown: they equal no clothes."""


@dataclass(frozen=True)
class Labels:
    """The labels of each row: `identity` int64 `[N]` and `camera` int64 `[N]`.

    Identities are `JUNK`, `DISTRACTOR` or positive. Cameras are numbers from 0, or `NO_CAMERA`.
    `clothes` int64 `[N]`, if given, numbers the outfits of a person from 0, or is `NO_CLOTHES`.
    """

    identity: NDArray[np.int64]
    camera: NDArray[np.int64]
    clothes: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.clothes is not None and self.clothes.shape != self.identity.shape:
            raise ValueError(f"{len(self.identity)} identities need as many clothes")
        for name, values in (("identity", self.identity), ("camera", self.camera)):
            if values.dtype != np.int64 or values.ndim != 1:
                raise ValueError(f"{name} must be int64 [N], not {values.dtype} {values.shape}")
            # Vectorized comparisons of labels need them contiguous in memory.
            object.__setattr__(self, name, np.ascontiguousarray(values))
        if len(self.identity) != len(self.camera):
            raise ValueError(
                f"{len(self.identity)} identities do not go with {len(self.camera)} cameras"
            )
        if (self.identity < JUNK).any() or (self.camera < NO_CAMERA).any():
            raise ValueError("identities and cameras below -1 have no meaning")

    def __len__(self) -> int:
        return len(self.identity)

    def take(self, rows: NDArray[np.int64]) -> "Labels":
        """The labels at `rows` `[P]`, in that order."""
        clothes = None if self.clothes is None else self.clothes[rows]
        return Labels(self.identity[rows], self.camera[rows], clothes)


def has_match(queries: Labels, gallery: Labels) -> NDArray[np.bool_]:
    """A mask `[Q]` of the queries with at least one match: the valid ones.

    >>> has_match(Labels(np.array([5, 6]), np.array([0, 0])),
    ...           Labels(np.array([5, 6]), np.array([1, 0])))
    array([ True, False])
    """
    owner, _ = matching_pairs(queries, gallery)
    return np.bincount(owner, minlength=len(queries)) > 0


def check_labels(rows: Sized, labels: Labels, what: str) -> None:
    """Raise ValueError unless there is one label for each feature; `what` names the features."""
    if len(rows) != len(labels):
        raise ValueError(f"{len(rows)} {what} features do not go with {len(labels)} labels")


def matching_pairs(queries: Labels, gallery: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The (query, gallery row) pairs that match, query by query, with ascending rows."""
    owner, rows, junk = same_identity_pairs(queries, gallery)
    return owner[~junk], rows[~junk]


def same_identity_pairs(
    queries: Labels, gallery: Labels
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The (query, gallery row) pairs with the same positive identity, and which of them are junk.

    Pairs come query by query, with ascending rows. A pair is junk if both rows have the same
    camera, or, if clothes count, the same clothes (the cloth-changing protocol: Qian et al.,
    Long-Term Cloth-Changing Person Re-identification, ACCV 2020). The other pairs match.

    Together with the identity `JUNK`, this is the junk rule. Every other row is kept and matches
    nobody.

    >>> same_identity_pairs(Labels(np.array([5]), np.array([0])),
    ...                     Labels(np.array([5, 6, 5]), np.array([0, 0, 1])))
    (array([0, 0]), array([0, 2]), array([ True, False]))
    """
    order = np.argsort(gallery.identity, kind="stable")
    ordered = gallery.identity[order]
    low = np.searchsorted(ordered, queries.identity, "left")
    high = np.searchsorted(ordered, queries.identity, "right")
    sizes = np.where(queries.identity > DISTRACTOR, high - low, 0)
    owner = np.repeat(np.arange(len(queries)), sizes)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows = order[np.repeat(low, sizes) + within]
    camera = queries.camera[owner]
    junk = (gallery.camera[rows] == camera) & (camera != NO_CAMERA)
    if queries.clothes is not None and gallery.clothes is not None:
        worn = queries.clothes[owner]
        junk |= (gallery.clothes[rows] == worn) & (worn != NO_CLOTHES)
    return owner.astype(np.int64), rows.astype(np.int64), junk
