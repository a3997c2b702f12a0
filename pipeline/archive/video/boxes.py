"""Boxes as a detector or tracker wrote them, and the choice among them."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive.video.rules import BoxSettings

BOX_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("frame", pa.int64()),
        pa.field("x", pa.float64()),
        pa.field("y", pa.float64()),
        pa.field("width", pa.float64()),
        pa.field("height", pa.float64()),
        pa.field("track", pa.string()),
        pa.field("identity", pa.int64()),
        pa.field("camera", pa.string()),
        pa.field("confidence", pa.float64()),
        pa.field("class", pa.string()),
    ]
)
"""One row per box: pixels, corner and frame from 0; null if the file does not say.

`file` is the video or picture, relative to the box file; null for the video beside it.
"""


class Boxes(NamedTuple):
    """The boxes of one file. If `relative`, they are shares of the frame's size."""

    table: pa.Table
    relative: bool = False


def box_table(columns: dict[str, Any], count: int) -> pa.Table:
    """A table of `BOX_SCHEMA` with some of its columns; the others are null."""
    arrays = [
        pa.array(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(count, field.type)
        for field in BOX_SCHEMA
    ]
    return pa.table(arrays, schema=BOX_SCHEMA)


def chosen(boxes: pa.Table, settings: BoxSettings) -> tuple[pa.Table, Counter[str]]:
    """The boxes that pass the limits of confidence, class and frame, and how many each limit
    excludes.
    """
    left_out = Counter[str]()
    tests: list[tuple[str, Any]] = []
    if settings.min_confidence is not None:
        enough = pc.greater_equal(boxes["confidence"], settings.min_confidence)
        tests.append(("(box of low confidence)", pc.fill_null(enough, True)))
    if settings.class_:
        wanted = pc.is_in(boxes["class"], value_set=pa.array(settings.class_, pa.string()))
        tests.append(("(box of another class)", wanted))
    if settings.every > 1:
        frames = np.asarray(pc.fill_null(boxes["frame"], 0))
        tests.append(("(box of a frame between)", pa.array(frames % settings.every == 0)))
    taken = np.ones(len(boxes), bool)
    for what, passes in tests:
        passing = np.asarray(passes)
        if gone := int((taken & ~passing).sum()):
            left_out[what] = gone
        taken &= passing
    return boxes.filter(pa.array(taken)), left_out
