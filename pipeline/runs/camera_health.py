"""Cameras of a gallery that have fallen silent, and those whose scores have shifted."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.cameras.drift import Shift, level_scores, mean_shift
from pipeline.core.cameras.silence import silences
from pipeline.core.evaluation.bootstrap import Bootstrap
from pipeline.gallery.table import Gallery

FEWEST_ROWS = 100
"""The least number of a camera's newest rows, and of its earlier rows, for a comparison."""

_MOST_ROWS = 1000
"""The most rows of either side that are read."""
_HOUR = 3_600_000_000
_SEED = 0


@dataclass(frozen=True)
class SilentCamera:
    """A camera that usually sends and now does not.

    It sent last at `last` (ISO 8601, UTC). It sent in `active_hours` of the `hours` until then in
    which any camera of its gallery sent, and in none of the `quiet_hours` since. `chance` is the
    probability of such a pause if the camera still sends as before; it is None if a limit was
    exceeded instead.
    """

    gallery: str
    camera: str
    last: str
    active_hours: int
    hours: int
    quiet_hours: int
    chance: float | None


@dataclass(frozen=True)
class CameraDrift:
    """The change of the scores of a camera's newest rows from those of its earlier ones.

    A row's score is its mean similarity with earlier rows of the same camera. `shift` is the
    difference of the means (newest less earlier). Its interval, from `low` to `high`, has the
    confidence `level` for all cameras of the gallery together; `has_drifted` is true if the
    interval excludes 0.
    """

    gallery: str
    camera: str
    rows_before: int
    rows_now: int
    before: float
    now: float
    shift: float
    low: float
    high: float
    level: float
    has_drifted: bool


@dataclass(frozen=True)
class HealthSettings:
    """The limits of silence and drift."""

    least_chance: float = 0.001
    """A camera is silent if its silence is less probable than this."""
    silent_after: timedelta | None = None
    """A camera is also silent if its last image is older than this."""
    ignored: tuple[str, ...] = ()
    """Cameras that are not watched, for example because they were removed."""
    level: float = 0.95
    """Confidence that all intervals of a gallery hold together."""


def silent_cameras(
    gallery: Gallery, settings: HealthSettings, now: datetime | None = None
) -> list[SilentCamera]:
    """The cameras of a version that usually send and now do not, by name.

    Time is counted in hours in which any camera of the gallery sent anything (`silences`), so a
    night in which all cameras are quiet does not count. A row's time is `captured_at`, or otherwise
    the time of its file. `silent_after` counts back from `now`.
    """
    rows = gallery.rows(["camera", "captured_at", "mtime"])
    taken = pc.coalesce(rows["captured_at"], rows["mtime"]).cast(pa.int64())
    micros = pc.fill_null(taken, -1).to_numpy().astype(np.int64)
    names, codes = _codes(rows["camera"])
    found = silences(codes, np.where(micros < 0, -1, micros // _HOUR))
    limit = None
    if settings.silent_after is not None:
        limit = (now or datetime.now(UTC)) - settings.silent_after
    silent = []
    for code, each in sorted(found.items(), key=lambda one: names[one[0]]):
        last = datetime.fromtimestamp(int(micros[codes == code].max()) / 1e6, UTC)
        by_chance = each.chance < settings.least_chance
        if names[code] in settings.ignored or not (by_chance or (limit and last < limit)):
            continue
        silent.append(
            SilentCamera(
                gallery=gallery.location,
                camera=names[code],
                last=last.isoformat(timespec="seconds"),
                active_hours=each.active,
                hours=each.periods,
                quiet_hours=each.quiet,
                chance=each.chance if by_chance else None,
            )
        )
    return silent


def camera_drift(gallery: Gallery, first_new: int, settings: HealthSettings) -> list[CameraDrift]:
    """Measure how the scores of each camera with rows from the id `first_new` on differ, by name.

    The newest rows are the new ones, and at least the last `FEWEST_ROWS` of the camera. They are
    compared with a sample of the earlier rows: one half of the sample gives the features to compare
    with, the other half the earlier scores. Groups are tracklets, or single rows without one.
    Cameras with too few rows or tracklets on either side are left out.
    """
    rows = gallery.rows(["row_id", "camera", "tracklet"])
    ids = rows["row_id"].to_numpy()
    names, codes = _codes(rows["camera"])
    tracklets = _codes(rows["tracklet"])[1]
    groups = np.where(tracklets < 0, len(ids) + np.arange(len(ids)), tracklets)
    random = np.random.default_rng(_SEED)
    compared = []
    for code in np.unique(codes[(ids >= first_new) & (codes >= 0)]).tolist():
        own = np.flatnonzero(codes == code)
        count = max(FEWEST_ROWS, int((ids[own] >= first_new).sum()))
        earlier, newest = own[:-count], own[-count:]
        if names[code] in settings.ignored or len(earlier) < FEWEST_ROWS:
            continue
        compared.append((names[code], _some(earlier, random), _some(newest, random)))
    if not compared:
        return []
    level = 1 - (1 - settings.level) / len(compared)
    bootstrap = Bootstrap(replicates=max(1000, round(50 / (1 - level))), level=level)
    features = gallery.features()
    found = []
    for name, earlier, newest in sorted(compared):
        halves = np.unique(groups[earlier], return_inverse=True)[1] % 2 == 0  # whole tracklets
        others, before = earlier[halves], earlier[~halves]
        if not len(others) or not len(before):
            continue
        kept = features.take(others)
        shift = mean_shift(
            level_scores(features.take(before), kept),
            level_scores(features.take(newest), kept),
            groups[before],
            groups[newest],
            bootstrap,
        )
        if shift is not None:
            found.append(
                _drift(gallery.location, name, len(before), len(newest), shift, settings.level)
            )
    return found


def _drift(
    location: str, name: str, before: int, now: int, shift: Shift, level: float
) -> CameraDrift:
    return CameraDrift(
        gallery=location,
        camera=name,
        rows_before=before,
        rows_now=now,
        before=shift.before,
        now=shift.now,
        shift=shift.now - shift.before,
        low=shift.low,
        high=shift.high,
        level=level,
        has_drifted=shift.is_certain,
    )


def _some(positions: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """At most `_MOST_ROWS` of the positions, in order."""
    if len(positions) <= _MOST_ROWS:
        return positions
    return np.sort(random.choice(positions, _MOST_ROWS, replace=False))


def _codes(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    """The values of a column, and the number of each row's value; -1 for null."""
    coded = column.combine_chunks().dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy().astype(np.int64)
    return coded.dictionary.to_pylist(), codes
