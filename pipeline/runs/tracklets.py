"""A gallery of tracklets, made or brought up to date with the gallery of their boxes."""

import logging
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

Feature = Literal["mean", "medoid"]

_log = logging.getLogger(__name__)


def update_tracklets(parent: Gallery, out: str, feature: Feature = "mean") -> TrackletsMade:
    """Write the tracklets of `parent` to the gallery `out`, or bring it up to date.

    InputError if `parent` has no tracklet or is derived itself, if a tracklet has two cameras, or
    if `out` was made from another gallery or in another way.
    """
    if (held := derivation(parent)) is not None:
        raise InputError(f"{parent.location} is {held}: give the gallery of the boxes")
    rows = parent.rows()
    names = rows["tracklet"].combine_chunks()
    if names.null_count == len(names):
        raise InputError(
            f"{parent.location} has no row of a tracklet in version {parent.version}: extract it"
            " from videos whose boxes have tracks, or from a manifest with a column tracklet"
        )
    opening.check_writable(out)
    parameters = {"tracklets": feature}
    with opening.lock_gallery(out, f"tracklets of {parent.location}") as lock:
        if not opening.exists(out):
            create_derived(out, parent, parameters, lock)
        present = Gallery.open(out)
        check_parameters(present, parent, parameters)
        after = present
        if not is_made_from(present, parent):
            table, features = _tracklets(parent, rows, medoid=feature == "medoid")
            after = commit_derived(present, parent, ArrayRows(features), lock, table)
    if names.null_count:
        _log.info("%s: %d rows are of no tracklet", parent.location, names.null_count)
    return TrackletsMade(
        gallery=out,
        version=after.version,
        parent=parent.location,
        parent_version=parent.version,
        feature=feature,
        rows=after.count,
        boxes=len(names) - names.null_count,
        without_tracklet=names.null_count,
        is_new_version=after is not present,
    )


def _tracklets(parent: Gallery, rows: pa.Table, *, medoid: bool) -> tuple[pa.Table, np.ndarray]:
    """A row for each tracklet, by row id, and the features float32 `[T, D]`.

    Its id is that of its first row; identity is that of all its rows, null where they differ.
    """
    codes = rows["tracklet"].combine_chunks().dictionary_encode()
    order, starts = groups(codes.indices.fill_null(-1).to_numpy().astype(np.int64))
    boxes = np.diff(starts)
    number = pa.array(np.repeat(np.arange(len(boxes)), boxes))
    grouped = rows.take(pa.array(order)).append_column("number", number).group_by("number")
    told = grouped.aggregate(
        [
            ("row_id", "min"), ("tracklet", "min"), ("identity", "min"), ("identity", "max"),
            ("identity", "count"), ("camera", "min"), ("camera", "max"), ("camera", "count"),
            ("captured_at", "min"), ("captured_at", "max"), ("frame", "min"), ("quality", "mean"),
        ]
    ).sort_by("number")  # fmt: skip
    _check_cameras(parent, told, boxes)
    same = pc.and_(pc.equal(told["identity_min"], told["identity_max"]),
                   pc.equal(told["identity_count"], pa.array(boxes)))  # fmt: skip
    table = pa.table(
        {
            "row_id": told["row_id_min"],
            "path": told["tracklet_min"],
            "identity": pc.if_else(same, told["identity_min"], None),
            "camera": told["camera_min"],
            "captured_at": told["captured_at_min"],
            "frame": told["frame_min"],
            "quality": told["quality_mean"].cast(pa.float32()),
            "tracklet": told["tracklet_min"],
            "captured_until": told["captured_at_max"],
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


def _check_cameras(parent: Gallery, told: pa.Table, boxes: np.ndarray) -> None:
    """InputError for a tracklet under two cameras, or under one and none."""
    counts = told["camera_count"].to_numpy()
    differ = np.asarray(pc.fill_null(pc.not_equal(told["camera_min"], told["camera_max"]), False))
    wrong = np.flatnonzero(differ | ((counts > 0) & (counts < boxes)))
    if len(wrong):
        first = told.slice(int(wrong[0]), 1).to_pylist()[0]
        raise InputError(
            f"{parent.location}: tracklet {first['tracklet_min']} has boxes of two cameras"
            f" ({first['camera_min']}, {first['camera_max']}), or some without one; a tracklet is"
            " of one camera: give them different names"
        )
