"""Rows whose image has another time but the same bytes as when it was extracted.

They are stored beside the log, by row id and time, so that the next run need not read these images
again. The row of an id never changes, so this holds for every version. If the file is lost, the
images are only read once more.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import root_of
from pipeline.schemas import SEEN_SCHEMA


def read_seen(location: str) -> pa.Table:
    """Row ids, each with the last seen time of its image, in `SEEN_SCHEMA`.

    Raise GalleryDamagedError if the file has changed since it was written.
    """
    path = root_of(location) / storage.SEEN_FILE
    data = checksums.read_recorded(path, "the images that were touched are read once more")
    if data is None:
        return SEEN_SCHEMA.empty_table()
    return pq.read_table(pa.BufferReader(data), schema=SEEN_SCHEMA)


def add_seen(location: str, touched: pa.Table, row_ids: np.ndarray) -> None:
    """Store the times of `touched` rows, with the known times of the rows `row_ids` int64 `[N]`,
    which ascend.
    """
    known = read_seen(location)
    known = known.filter(pc.invert(pc.is_in(known["row_id"], value_set=touched["row_id"])))
    seen = pa.concat_tables([known, touched.cast(SEEN_SCHEMA)])
    ids = seen["row_id"].to_numpy()
    place = np.searchsorted(row_ids, ids)
    there = place < len(row_ids)
    there[there] = row_ids[place[there]] == ids[there]
    seen = seen.filter(pa.array(there)).sort_by("row_id")
    path = root_of(location) / storage.SEEN_FILE
    checksums.write_recorded(path, lambda whole: pq.write_table(seen, whole, compression="zstd"))
