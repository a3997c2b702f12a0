"""The plan of a running or interrupted run, stored beside the log until its commit.

The plan of an interrupted run gives the next run the row ids of the finished units.
"""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.gallery import checksums
from pipeline.gallery.files import storage


def write_plan(location: str, planned: pa.Table) -> None:
    """Store a plan, whole or not at all, in place of an earlier one."""
    path = storage.local_root(location) / storage.PLAN_FILE
    checksums.write_whole(path, lambda whole: pq.write_table(planned, whole, compression="zstd"))


def read_plan(location: str) -> pa.Table | None:
    """The stored plan, or None if no run is running or was interrupted.

    GalleryDamagedError if the file has changed since it was written.
    """
    path = storage.local_root(location) / storage.PLAN_FILE
    data = checksums.read(
        path, "the run is planned again (finished work units are extracted again)"
    )
    return None if data is None else pq.read_table(pa.BufferReader(data))


def drop_plan(location: str) -> None:
    """Delete the plan: its units are committed."""
    storage.delete_files([storage.local_root(location) / storage.PLAN_FILE])
