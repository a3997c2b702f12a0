"""The plan of a run that is under way, kept beside the log until its commit.

An interrupted run's plan tells the next one which row ids its finished units carry.
"""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.gallery import checksums
from pipeline.gallery.files import storage


def write_plan(location: str, planned: pa.Table) -> None:
    """Keep a plan, whole or not at all, in place of an earlier one."""
    path = storage.local_root(location) / storage.PLAN_FILE
    checksums.write_whole(path, lambda whole: pq.write_table(planned, whole, compression="zstd"))


def read_plan(location: str) -> pa.Table | None:
    """The plan that is kept, or None where no run is under way or was interrupted.

    GalleryDamagedError where the file is not as it was written.
    """
    path = storage.local_root(location) / storage.PLAN_FILE
    data = checksums.read(path, "the run is planned anew (finished work units are done again)")
    return None if data is None else pq.read_table(pa.BufferReader(data))


def drop_plan(location: str) -> None:
    """Forget the plan: its units are committed."""
    storage.delete_files([storage.local_root(location) / storage.PLAN_FILE])
