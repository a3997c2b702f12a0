"""The plan of a running or interrupted run, stored beside the log until its commit.

The plan of an interrupted run gives the next run the row ids of the finished units.
"""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import root_of
from pipeline.large_tables import TableWriter

_ROWS_AT_ONCE = 262_144


def write_plan(location: str, planned: pa.Table) -> None:
    """Store a plan, whole or not at all, in place of an earlier one."""
    path = root_of(location) / storage.PLAN_FILE
    checksums.write_recorded(path, lambda whole: pq.write_table(planned, whole, compression="zstd"))


def read_plan(location: str) -> pa.Table | None:
    """The stored plan, or None if no run is running or was interrupted.

    Raise GalleryDamagedError if the file has changed since it was written.
    """
    path = root_of(location) / storage.PLAN_FILE
    data = checksums.read_recorded(
        path, "the run is planned again (finished work units are extracted again)"
    )
    if data is None:
        return None
    stored = pq.ParquetFile(pa.BufferReader(data))
    planned = TableWriter(stored.schema_arrow)
    for batch in stored.iter_batches(_ROWS_AT_ONCE):
        planned.add(pa.Table.from_batches([batch]))
    return planned.finish()


def drop_plan(location: str) -> None:
    """Delete the plan: its units are committed."""
    storage.delete_files([root_of(location) / storage.PLAN_FILE])
