"""Rows whose image was found with another time and the bytes that it was extracted from.

They are kept beside the log, by row id and time alone, so that the next run need not read these
images again. A row never changes under its id, so this holds for every version; to lose the file
costs no more than reading them once again.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.schemas import SEEN_SCHEMA


def read_seen(location: str) -> pa.Table:
    """Row ids, each with the time at which its image was seen last; in `SEEN_SCHEMA`.

    GalleryDamagedError where the file is not as it was written.
    """
    path = storage.local_root(location) / storage.SEEN_FILE
    data = checksums.read(path, "the images that were touched are read once more")
    if data is None:
        return SEEN_SCHEMA.empty_table()
    return pq.read_table(pa.BufferReader(data), schema=SEEN_SCHEMA)


def add_seen(location: str, touched: pa.Table, row_ids: np.ndarray) -> None:
    """Keep the times of `touched` rows, beside those known of the rows `row_ids` int64 `[N]`."""
    known = read_seen(location)
    known = known.filter(pc.invert(pc.is_in(known["row_id"], value_set=touched["row_id"])))
    seen = pa.concat_tables([known, touched.cast(SEEN_SCHEMA)])
    seen = seen.filter(pc.is_in(seen["row_id"], value_set=pa.array(row_ids))).sort_by("row_id")
    path = storage.local_root(location) / storage.SEEN_FILE
    checksums.write_whole(path, lambda whole: pq.write_table(seen, whole, compression="zstd"))
