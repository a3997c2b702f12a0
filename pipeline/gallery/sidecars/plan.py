"""The plan of a run that is under way, kept beside the log until its commit.

An interrupted run's plan tells the next one which row ids its finished units carry.
"""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.gallery.files import storage
from pipeline.gallery.files.storage import GalleryDamagedError


def write_plan(location: str, planned: pa.Table) -> None:
    """Keep a plan, whole or not at all, in place of an earlier one."""
    path = storage.local_root(location) / storage.PLAN_FILE
    storage.write_whole(path, lambda whole: pq.write_table(planned, whole, compression="zstd"))


def read_plan(location: str) -> pa.Table | None:
    """The plan that is kept, or None where no run is under way or was interrupted.

    GalleryDamagedError where the file cannot be read.
    """
    path = storage.local_root(location) / storage.PLAN_FILE
    if not path.exists():
        return None
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise GalleryDamagedError(
            f"{path}: the plan of an interrupted run cannot be read ({error}); delete it to plan"
            " anew (finished work units are done again)"
        ) from error


def drop_plan(location: str) -> None:
    """Forget the plan: its units are committed."""
    (storage.local_root(location) / storage.PLAN_FILE).unlink(missing_ok=True)
