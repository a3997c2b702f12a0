"""Boxes as a table in our own columns, and the table that lists videos."""

import logging
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline.archive.video.boxes import BOX_SCHEMA, Boxes, box_table
from pipeline.errors import InputError
from pipeline.input_files import why

SUFFIXES = (".csv", ".parquet")
_NEEDED = ("x", "y", "width", "height")
_TEXTS = ("video", "image", "camera", "boxes", "started_at", "track", "tracklet", "class")

_log = logging.getLogger(__name__)


def read_table(filesystem: AbstractFileSystem, path: str) -> pa.Table:
    """Read a .csv or .parquet file as a table, with names and labels as text.

    Raise InputError if it is not a table.
    """
    try:
        with filesystem.open(path, "rb") as file:
            if path.endswith(".parquet"):
                return pq.read_table(file)
            options = pa_csv.ConvertOptions(
                column_types=dict.fromkeys(_TEXTS, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            )
            return pa_csv.read_csv(file, convert_options=options)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} cannot be read as a table: {why(error)}") from error


def is_box_table(names: list[str]) -> bool:
    """Whether a table with these columns has a box in each row."""
    return {*_NEEDED} <= {*names}


def as_boxes(table: pa.Table, name: str) -> Boxes:
    """Read the boxes of a table in our columns.

    These are x, y, width, height, frame (from 0), and any of video or image, track (or tracklet),
    identity, camera, confidence, class. Other columns are named in the log. Raise InputError if one
    is missing or of the wrong kind.
    """
    names = table.column_names
    if missing := [each for each in _NEEDED if each not in names]:
        raise InputError(f"{name} has no column {missing[0]}; it has {', '.join(names)}")
    if "frame" not in names and "image" not in names:
        raise InputError(f"{name} has neither a column frame nor image; it has {', '.join(names)}")
    columns: dict[str, Any] = {}
    for field in BOX_SCHEMA:
        source = {"file": ("image", "video"), "track": ("track", "tracklet")}.get(
            field.name, (field.name,)
        )
        found = next((each for each in source if each in names), None)
        if found is None:
            continue
        column = table[found]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        try:
            columns[field.name] = column.cast(field.type).combine_chunks()
        except (pa.ArrowException, ValueError) as error:
            raise InputError(f"{name}: column {found}: {why(error)}") from error
    for each in (*_NEEDED, *(("frame",) if "image" not in names else ())):
        column = columns[each]
        ok = pc.fill_null(pc.is_finite(column.cast(pa.float64())), False)
        if not pc.all(ok).as_py():
            row = pc.index(ok, False).as_py() + 1
            raise InputError(f"{name}: row {row} has no number in the column {each}")
    known = {"video", "image", "tracklet", *BOX_SCHEMA.names}
    if ignored := [each for each in names if each not in known]:
        _log.info("%s: columns not read: %s", name, ", ".join(ignored))
    return Boxes(box_table(columns, len(table)))
