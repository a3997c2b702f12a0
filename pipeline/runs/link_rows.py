"""The rows that a linking compares, and what is known of them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.blocks import ChosenRows, FeatureRows
from pipeline.core.evaluation.labels import DISTRACTOR, JUNK
from pipeline.core.identities.linking import NO_MOMENT
from pipeline.core.identities.verdicts import Verdicts
from pipeline.core.travel.conflicts import Conflicts
from pipeline.core.travel.nearby import Walkable
from pipeline.errors import InputError
from pipeline.gallery.files.schema import SCALAR_COLUMNS
from pipeline.gallery.sidecars.capture_times import camera_numbers, moments
from pipeline.runs.link_verdicts import verdicts_by_position
from pipeline.runs.linked import LinkSettings
from pipeline.runs.selection import RowFilter
from pipeline.runs.travel import travel_table, walkable
from pipeline.runs.union import AnyGallery, GalleryUnion
from pipeline.stages.neighbors import Apart


@dataclass(frozen=True, eq=False)
class RowsToLink:
    """N of the `rows` of a gallery: those at the places `kept` `[N]`, without junk.

    `positions` `[N]` are theirs in the gallery; `selected` those of all `rows`, None for every row
    of the gallery. `moments` `[N]` are equal for rows that surely differ, and `identity` `[N]` is
    `DISTRACTOR` where a person is not known. `verdicts` are those of the gallery, by position.
    """

    gallery: AnyGallery
    rows: pa.Table
    selected: NDArray[np.int64] | None
    kept: NDArray[np.int64]
    positions: NDArray[np.int64]
    moments: NDArray[np.int64]
    identity: NDArray[np.int64]
    verdicts: Verdicts
    walk: Walkable | None
    times_from: str | None
    other_cameras_only: bool

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """Whether the person of each row `[N]` is known."""
        return self.identity > DISTRACTOR

    @property
    def ids(self) -> NDArray[np.int64] | None:
        """The row ids `[N]`; None for rows of several galleries, whose ids repeat."""
        if isinstance(self.gallery, GalleryUnion):
            return None
        return self.rows["row_id"].to_numpy()[self.kept]

    @property
    def features(self) -> FeatureRows:
        """The features `[N, D]`."""
        features: FeatureRows = self.gallery.features()
        if len(self.kept) < len(features):
            return ChosenRows(features, self.positions)
        return features

    @property
    def conflicts(self) -> Conflicts | None:
        """Which rows travel times keep out of one group."""
        return None if self.walk is None else Conflicts.of(self.walk.seen, self.walk.travel)

    @property
    def evidence(self) -> NDArray[np.int64]:
        """The moments `[N]` that say something about links: not those of rows that are never
        linked.
        """
        if self.other_cameras_only:
            return np.full_like(self.moments, NO_MOMENT)
        if self.walk is None:
            return self.moments
        # The last one: an unknown camera.
        never = np.append(np.diag(self.walk.travel.least) > 0, False)
        return np.where(never[self.walk.seen.camera], NO_MOMENT, self.moments)

    def rule(self, *, with_times: bool = True) -> Apart | None:
        """Which rows are not linked; `with_times` takes the travel times into account."""
        if self.walk is not None and with_times:
            travel = self.walk.travel
            return Walkable(self.walk.seen, travel.apart() if self.other_cameras_only else travel)
        if not self.other_cameras_only:
            return None
        return camera_numbers(self.rows["camera"].take(pa.array(self.kept)))


def rows_to_link(held: AnyGallery, settings: LinkSettings, select: RowFilter) -> RowsToLink:
    """Read the rows that are selected, and what verdicts, times and cameras say of them.

    Raise InputError if there are fewer than two besides junk, and what reading the travel times and
    the verdicts raises.
    """
    selected = select.positions(held)
    rows = held.rows() if selected is None else held.rows_at(selected, SCALAR_COLUMNS)
    identity = pc.fill_null(rows["identity"], DISTRACTOR).to_numpy()
    kept = np.flatnonzero(identity != JUNK)
    if len(kept) < 2:
        raise InputError(
            f"{held.location} has {len(kept)} rows in version {held.version} besides junk: a"
            " link needs two"
        )
    walk, origin = None, None
    if settings.travel_times is not None:
        times = travel_table(settings.travel_times, held)
        walk, origin = walkable(rows.take(pa.array(kept)), times), times.origin
    return RowsToLink(
        gallery=held,
        rows=rows,
        selected=selected,
        kept=kept,
        positions=kept if selected is None else selected[kept],
        moments=moments(rows)[kept],
        identity=identity[kept],
        verdicts=verdicts_by_position(held),
        walk=walk,
        times_from=origin,
        other_cameras_only=select.not_own_camera,
    )
