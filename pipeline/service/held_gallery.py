"""One version of a gallery, or of several read as one, kept in memory for searches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.core.held.search import HeldPart
from pipeline.errors import InputError
from pipeline.gallery.held_features import HeldFeatures, hold_features
from pipeline.gallery.table import Gallery
from pipeline.runs.thresholds import Thresholds, thresholds_of
from pipeline.runs.union import AnyGallery, GalleryUnion

COLUMNS = (
    "row_id", "path", "identity", "camera", "captured_at", "captured_until", "frame", "tracklet",
    "boxes", "height", "width", "quality",
)  # fmt: skip
"""The columns of a row that are kept in memory, and answered."""

ALL = "_all"
"""The name of all galleries, read as one."""


@dataclass(frozen=True, eq=False)
class HeldGallery:
    """A version that answers at once: codes of its features, and `columns`, by position.

    Positions are in row-id order. `owner` int64 `[N]` is the number of each row's gallery in
    `members`, and `ids` its row id there.
    """

    name: str
    gallery: AnyGallery
    features: HeldFeatures
    columns: pa.Table
    ids: NDArray[np.int64]
    owner: NDArray[np.int64]
    members: tuple["HeldGallery", ...]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def about(self) -> dict[str, Any]:
        """What every answer says about the gallery: its name, version and recipe."""
        told: dict[str, Any] = {"gallery": self.name, "version": self.gallery.version}
        if self.members:
            told |= {
                "version": None,
                "versions": {each.name: each.gallery.version for each in self.members},
            }
        return {**told, "fingerprint": self.gallery.fingerprint}

    def thresholds(self, given: float | None) -> Thresholds:
        """The least similarity of a match: as given, or as one gallery was calibrated."""
        if isinstance(self.gallery, GalleryUnion):
            return Thresholds(given, None if given is None else "given", {})
        return thresholds_of(self.gallery, given)

    def positions_of(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """The positions of rows by their ids; raise InputError for an id that is not there."""
        if self.members:
            raise InputError(f"rows of {ALL} have no ids of their own: name one gallery")
        wanted = np.asarray(ids, np.int64)
        places = np.searchsorted(self.ids, wanted)
        known = places < len(self.ids)
        known[known] = self.ids[places[known]] == wanted[known]
        if not known.all():
            raise InputError(
                f"{self.name} has no row {wanted[~known][0]} in version {self.gallery.version}"
            )
        return places

    def rows(self, positions: NDArray[np.int64]) -> list[dict[str, Any]]:
        """The columns of some rows, as JSON values; times are ISO 8601, UTC."""
        table = self.columns.take(pa.array(positions))
        found = [{name: _told(value) for name, value in row.items()} for row in table.to_pylist()]
        if self.members:
            for row, owner in zip(found, self.owner[positions].tolist(), strict=True):
                row["gallery"] = self.members[owner].name
        return found


def _told(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def hold_gallery(name: str, gallery: Gallery, before: HeldGallery | None = None) -> HeldGallery:
    """Keep a version; what it shares with the version held `before` is not read again.

    Raise what reading the gallery raises.
    """
    features = hold_features(gallery.features(), before.features if before else None)
    columns = gallery.rows(COLUMNS).combine_chunks()  # rows of many chunks are slow to take
    ids = columns["row_id"].to_numpy()
    return HeldGallery(name, gallery, features, columns, ids, np.zeros(len(ids), np.int64), ())


def hold_together(members: Sequence[HeldGallery]) -> HeldGallery:
    """Several galleries as one, in their order; their codes are shared.

    Raise InputError if their recipes differ.
    """
    galleries = [each.gallery for each in members]
    union = GalleryUnion(tuple(each for each in galleries if isinstance(each, Gallery)))
    starts = np.cumsum([0, *map(len, members)])
    parts = [
        HeldPart(part.rows, part.positions + start)
        for each, start in zip(members, starts, strict=False)
        for part in each.features.parts
    ]
    files: Mapping[str, Any] = {}
    return HeldGallery(
        ALL,
        union,
        HeldFeatures(int(starts[-1]), tuple(parts), files),
        pa.concat_tables([each.columns for each in members]).combine_chunks(),
        np.concatenate([each.ids for each in members]),
        np.repeat(np.arange(len(members)), [len(each) for each in members]),
        tuple(replace(each, members=()) for each in members),
    )
