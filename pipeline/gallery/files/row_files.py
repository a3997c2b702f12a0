"""The layout of a gallery's Parquet files, and the statistics about them in the log."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, sha256_of
from pipeline.gallery.files.schema import STATISTICS_COLUMNS

MAX_UNIT_ROWS = 2048
"""Rows of a unit of images; a row group holds four such units."""
MOST_UNIT_ROWS = 8 * MAX_UNIT_ROWS
"""The most rows of any unit; a unit of videos has whole runs of frames."""
_ONE_PAGE = 1 << 30
_LONGEST_TEXT_STATISTIC = 32


def write_row_file(path: Path, rows: pa.Table) -> None:
    """Write rows as a Parquet file that reads fast, and wait until it is on the disk.

    The features are neither compressed nor in a dictionary, and each row group keeps them in one
    page with its checksum; statistics are stored for `STATISTICS_COLUMNS` only, so that no path
    stays in a log. Raise `RunError` if the disk is full.
    """
    codecs = {name: "none" if name == "feature" else "zstd" for name in rows.column_names}
    with storage.name_write_errors(path):
        pq.write_table(
            rows,
            path,
            row_group_size=4 * MAX_UNIT_ROWS,
            compression=codecs,
            use_dictionary=["camera", "tracklet", "origin"],
            column_encoding={"feature": "PLAIN"},
            write_statistics=list(STATISTICS_COLUMNS),
            data_page_size=_ONE_PAGE,
            write_page_checksum=True,
        )
        storage.sync_file(path)


def checksum(path: GalleryPlace) -> str:
    """The SHA-256 of a file, in hexadecimal; the log stores it with the statistics."""
    return sha256_of(path)


def delta_statistics(metadata: pq.FileMetaData) -> str:
    """The statistics of a file in the form of the Delta log (JSON): count, smallest, largest,
    nulls.

    Times are widened to whole milliseconds, which is the log's resolution.
    """
    smallest: dict[str, Any] = {}
    largest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    names = metadata.schema.to_arrow_schema().names
    for name in STATISTICS_COLUMNS:
        index = names.index(name)
        groups = [metadata.row_group(i).column(index) for i in range(metadata.num_row_groups)]
        parts = [group.statistics for group in groups if group.is_stats_set]
        if len(parts) < len(groups) or not all(part.has_null_count for part in parts):
            continue
        nulls[name] = sum(part.null_count for part in parts)
        known = [part for part in parts if part.has_min_max]
        if len(known) < len([part for part in parts if part.num_values]):
            continue
        if known:
            low, high = min(part.min for part in known), max(part.max for part in known)
            if isinstance(low, str) and max(len(low), len(high)) > _LONGEST_TEXT_STATISTIC:
                continue
            smallest[name], largest[name] = _floor(low), _ceiling(high)
    return json.dumps(
        {
            "numRecords": metadata.num_rows,
            "minValues": smallest,
            "maxValues": largest,
            "nullCount": nulls,
        }
    )


def _floor(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ceiling(value: Any) -> Any:
    if isinstance(value, datetime) and value.microsecond % 1000:
        value += timedelta(milliseconds=1)
    return _floor(value)
