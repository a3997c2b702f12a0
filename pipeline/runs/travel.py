"""Travel times in a run: read them, apply them to rows, and measure what they exclude."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from math import inf, isinf
from operator import or_
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.blocks import FeatureRows, blocks
from pipeline.core.evaluation.labels import DISTRACTOR, NO_CAMERA, Labels, has_match
from pipeline.core.neighbors.topk import TopK
from pipeline.core.thresholds.calibration import sample_identities
from pipeline.core.travel.nearby import Walkable, allowed_pairs, nearby
from pipeline.core.travel.times import NO_TIME, Sightings, TravelTimes
from pipeline.errors import InputError
from pipeline.gallery.labels import camera_numbers
from pipeline.gallery.log.conditions import Condition
from pipeline.gallery.travel_times import TravelTable, read_learned_times, read_travel_table
from pipeline.runs.travelled import LEARNED, ListEffect, TravelEffect
from pipeline.runs.union import AnyGallery, parts_of
from pipeline.schemas import TIMESTAMP

_log = logging.getLogger(__name__)

_DAY = 24 * 60 * 60 * 1_000_000
_SAMPLE = 10_000
_QUERIES, _LISTED = 1000, 10
_ROWS_AT_ONCE = 65_536
_LONGEST = 100 * 365 * 86_400.0
"""Seconds: a longer time sets no limit."""


def travel_table(given: str, gallery: AnyGallery) -> TravelTable:
    """Read the travel times in a file, or those learned from a gallery; InputError without any."""
    if given != LEARNED:
        return read_travel_table(Path(given))
    found = [table for each in parts_of(gallery) if (table := read_learned_times(each))]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{len(found)} galleries have learned travel times: give `travel_times` as a file"
        )
    raise InputError(
        f"{gallery.location} has no learned travel times: run calibrate with `travel_times` first,"
        " or give a file"
    )


def walkable(rows: pa.Table, table: TravelTable) -> Walkable:
    """Make the rule for rows `[N]` from their columns `camera` and `captured_at`, and a table.

    Warn of cameras that the table does not name, and of names that no row has.
    """
    names = sorted(rows["camera"].drop_null().unique().to_pylist())
    known = set(table.cameras)
    if strangers := [name for name in names if name not in known]:
        _log.warning(
            "the travel times (%s) say nothing of camera %s: nothing is excluded there",
            table.origin, ", ".join(strangers),
        )  # fmt: skip
    if unseen := sorted(known - set(names)):
        _log.warning(
            "the travel times (%s) name camera %s, which has no row", table.origin,
            ", ".join(unseen),
        )  # fmt: skip
    return Walkable(sightings(rows, names), table.times(names))


def sightings(rows: pa.Table, names: Sequence[str]) -> Sightings:
    """The cameras, as numbers in `names`, and the times of rows with `camera` and `captured_at`.

    InputError where no time is known, or where all are dates.
    """
    taken = rows["captured_at"].cast(pa.int64())
    time = pc.fill_null(taken, NO_TIME).to_numpy()
    known = time[time != NO_TIME]
    if not len(known) or not (known % _DAY).any():
        said = "holds only dates" if len(known) else "is unknown for every row"
        raise InputError(f"travel times need the times of rows, and captured_at {said}")
    return Sightings(camera_numbers(rows["camera"], names), time)


def excluded(rule: Walkable, identity: NDArray[np.int64], origin: str) -> TravelEffect:
    """Count the pairs that travel times exclude: of all rows, and of one `identity` `[N]`."""
    seen, count = rule.seen, len(rule)
    labeled = identity[identity > DISTRACTOR]
    chosen = identity[sample_identities(identity, _SAMPLE, 0)] if len(labeled) else labeled
    true_pairs = true_allowed = 0
    for each in np.unique(chosen):
        own = seen.take(np.flatnonzero(identity == each))
        true_pairs += len(own) * (len(own) - 1) // 2
        true_allowed += allowed_pairs(Walkable(own, rule.travel))
    pairs = count * (count - 1) // 2
    return TravelEffect(
        origin=origin,
        pairs=pairs,
        pairs_excluded=pairs - allowed_pairs(rule),
        true_pairs=true_pairs,
        true_pairs_excluded=true_pairs - true_allowed,
        rows_unknown=int((~seen.is_known).sum()),
    )


def list_effect(
    features: FeatureRows, walk: Walkable, identity: NDArray[np.int64]
) -> ListEffect | None:
    """Measure searches for some rows of known `identity` `[N]` in other cameras, with and without
    travel times.

    None if no row with a known camera and time has a match in another camera.
    """
    cameras = np.where(walk.seen.is_known, walk.seen.camera, NO_CAMERA)
    labels = Labels(identity, cameras)
    fit = has_match(labels, labels) & walk.seen.is_known
    if not fit.any():
        return None
    chosen = sample_identities(np.where(fit, identity, DISTRACTOR), _QUERIES, 0)
    figures = []
    for times in (walk.travel, TravelTimes.unknown(len(walk.travel))):
        found = TopK.none(len(chosen), _LISTED)
        queries, asked = features.take(chosen), walk.seen.take(chosen)
        for start, stop in blocks(len(identity), _ROWS_AT_ONCE):
            found, _ = nearby(
                queries, asked, features.read(start, stop), walk[start:stop].seen, times.apart(),
                _LISTED, first_query=-len(chosen), first_row=start, known=found,
            )  # fmt: skip
        hits = (identity[found.rows] == identity[chosen][:, None]) & (found.rows >= 0)
        figures.append((hits.sum() / max(1, (found.rows >= 0).sum()), hits[:, 0].mean()))
    (precision, rank1), (precision_without, rank1_without) = (
        tuple(map(float, each)) for each in figures
    )
    return ListEffect(len(chosen), _LISTED, precision, precision_without, rank1, rank1_without)


def reachable_rows(table: TravelTable, own_camera: str, when: datetime) -> Condition:
    """A condition for the rows that can show the person whom a camera saw at a time.

    It holds for rows without a camera or a time, and for cameras that the table does not name.
    """
    if own_camera not in table.cameras:
        _log.warning(
            "the travel times (%s) say nothing of camera %s: no row is excluded", table.origin,
            own_camera,
        )  # fmt: skip
    camera, time = pc.field("camera"), pc.field("captured_at")
    limited, parts = [], [camera.is_null(), time.is_null()]
    for name in table.cameras:
        there = table.ways.get((own_camera, name), (-inf, inf))
        back = table.ways.get((name, own_camera), (-inf, inf))
        if (-inf, inf) in (there, back):
            continue
        limited.append(name)
        for low, high in (there, (-back[1], -back[0])):
            if isinf(low) and isinf(high) and (low > 0) == (high > 0):
                continue  # nobody gets there
            inside = camera == name
            if low > -_LONGEST:
                inside &= time >= _moment(when, low)
            if high < _LONGEST:
                inside &= time <= _moment(when, high)
            parts.append(inside)
    if limited:
        parts.append(~camera.isin(pa.array(limited)) & camera.is_valid())
    expression = reduce(or_, parts) if limited else camera.is_null() | camera.is_valid()
    told = f"travel times allow it from camera {own_camera} at {when.isoformat()}"
    return Condition(told, ("camera", "captured_at"), False, expression)


def _moment(time: datetime, seconds: float) -> pa.Scalar:
    return pa.scalar(time.astimezone(UTC) + timedelta(seconds=seconds), TIMESTAMP)
