"""Make a gallery of tracklets, or bring it up to date with the gallery of their boxes."""

import itertools
import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.blocks import ArrayRows
from pipeline.core.tracklets import groups, mean_features
from pipeline.errors import InputError
from pipeline.gallery import opening
from pipeline.gallery.derived import (
    check_parameters,
    commit_derived,
    create_derived,
    derivation,
    is_made_from,
)
from pipeline.gallery.table import Gallery
from pipeline.runs.outcomes import TrackletsMade
from pipeline.runs.union import AnyGallery, as_one, parts_of

Feature = Literal["mean", "medoid"]

_log = logging.getLogger(__name__)


def update_tracklets(
    parent: Gallery | Sequence[Gallery], out: str, feature: Feature = "mean"
) -> TrackletsMade:
    """Write the tracklets of one gallery or of several to the gallery `out`, or bring it up to
    date.

    A tracklet is that of its name; where several galleries have different sources, names begin with
    the source. Raise InputError if a gallery is derived itself, if none has a tracklet, if a
    tracklet has two cameras, or if `out` was made from other galleries or in another way.
    """
    held = as_one(parent)
    parents = parts_of(held)
    for each in parents:
        if (how := derivation(each)) is not None:
            raise InputError(f"{each.location} is {how}: give the gallery of the boxes")
    rows = held.rows()
    names = rows["tracklet"].combine_chunks()
    if names.null_count == len(names):
        raise InputError(
            f"{held.location} has no row of a tracklet in version {held.version}: extract it"
            " from videos whose boxes have tracks, or from a manifest with a column tracklet"
        )
    opening.check_writable(out)
    parameters = {"tracklets": feature}
    with opening.lock_gallery(out, f"tracklets of {held.location}") as lock:
        if not opening.exists(out):
            create_derived(out, parents, parameters, lock)
        present = Gallery.open(out)
        check_parameters(present, parents, parameters)
        after = present
        if not is_made_from(present, parents):
            if len(parents) > 1:
                rows = _numbered(rows)
            table, features = _tracklets(held, rows, medoid=feature == "medoid")
            if len(parents) > 1:
                table, features = _with_ids(table, features, present)
            after = commit_derived(present, parents, ArrayRows(features), lock, table)
    if names.null_count:
        _log.info("%s: %d rows are of no tracklet", held.location, names.null_count)
    return TrackletsMade(
        gallery=out,
        version=after.version,
        parent=held.location,
        parent_version=held.version,
        feature=feature,
        rows=after.count,
        boxes=len(names) - names.null_count,
        without_tracklet=names.null_count,
        is_new_version=after is not present,
    )


def _numbered(rows: pa.Table) -> pa.Table:
    """The rows with their places as ids: those of several galleries repeat."""
    place = rows.schema.get_field_index("row_id")
    return rows.set_column(place, rows.schema.field(place), pa.array(np.arange(len(rows))))


def _with_ids(
    table: pa.Table, features: np.ndarray, present: Gallery
) -> tuple[pa.Table, np.ndarray]:
    """The tracklets with the ids that they have already; the others, in order, with new ones."""
    held = present.rows(["row_id", "path"]).to_pydict()
    known = dict(zip(held["path"], held["row_id"], strict=True))
    free = itertools.count(present.next_row_id)
    ids = np.array([known[path] if path in known else next(free)
                    for path in table["path"].to_pylist()], np.int64)  # fmt: skip
    place = table.schema.get_field_index("row_id")
    table = table.set_column(place, table.schema.field(place), pa.array(ids))
    order = np.argsort(ids)
    return table.take(pa.array(order)), features[order]


def _tracklets(parent: AnyGallery, rows: pa.Table, *, medoid: bool) -> tuple[pa.Table, np.ndarray]:
    """A row for each tracklet, by row id, and the features float32 `[T, D]`.

    Its id is that of its first row; identity is that of all its rows, null where they differ.
    """
    codes = rows["tracklet"].combine_chunks().dictionary_encode()
    order, starts = groups(codes.indices.fill_null(-1).to_numpy().astype(np.int64))
    boxes = np.diff(starts)
    number = pa.array(np.repeat(np.arange(len(boxes)), boxes))
    grouped = rows.take(pa.array(order)).append_column("number", number).group_by("number")
    summary = grouped.aggregate(
        [
            ("row_id", "min"), ("tracklet", "min"), ("identity", "min"), ("identity", "max"),
            ("identity", "count"), ("camera", "min"), ("camera", "max"), ("camera", "count"),
            ("captured_at", "min"), ("captured_at", "max"), ("frame", "min"), ("quality", "mean"),
        ]
    ).sort_by("number")  # fmt: skip
    _check_cameras(parent, summary, boxes)
    same = pc.and_(pc.equal(summary["identity_min"], summary["identity_max"]),
                   pc.equal(summary["identity_count"], pa.array(boxes)))  # fmt: skip
    table = pa.table(
        {
            "row_id": summary["row_id_min"],
            "path": summary["tracklet_min"],
            "identity": pc.if_else(same, summary["identity_min"], None),
            "camera": summary["camera_min"],
            "captured_at": summary["captured_at_min"],
            "frame": summary["frame_min"],
            "quality": summary["quality_mean"].cast(pa.float32()),
            "tracklet": summary["tracklet_min"],
            "captured_until": summary["captured_at_max"],
            "boxes": pa.array(boxes, pa.int32()),
        }
    )
    weights = np.asarray(pc.fill_null(rows["quality"], np.nan), np.float64)[order]
    unmeasured = np.isnan(weights)
    for begin, end in pairwise(starts.tolist()):
        if unmeasured[begin:end].any():
            weights[begin:end] = 1
    parts = list(mean_features(parent.features(), order, starts, weights, medoid=medoid))
    by_id = np.argsort(table["row_id"].to_numpy())
    return table.take(pa.array(by_id)), np.concatenate(parts)[by_id]


def _check_cameras(parent: AnyGallery, summary: pa.Table, boxes: np.ndarray) -> None:
    """Raise InputError for a tracklet under two cameras, or under one and none."""
    counts = summary["camera_count"].to_numpy()
    differ = np.asarray(
        pc.fill_null(pc.not_equal(summary["camera_min"], summary["camera_max"]), False)
    )
    wrong = np.flatnonzero(differ | ((counts > 0) & (counts < boxes)))
    if len(wrong):
        first = summary.slice(int(wrong[0]), 1).to_pylist()[0]
        raise InputError(
            f"{parent.location}: tracklet {first['tracklet_min']} has boxes of two cameras"
            f" ({first['camera_min']}, {first['camera_max']}), or some without one; a tracklet is"
            " of one camera: give them different names"
        )
