"""The tables of a listing: the images to extract, and the inputs that do not become rows."""

import pyarrow as pa

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("mtime", pa.timestamp("us", tz="UTC")),
        pa.field("offset", pa.int64()),
        pa.field("identity", pa.int64()),
        pa.field("camera", pa.string()),
        pa.field("captured_at", pa.timestamp("us", tz="UTC")),
        pa.field("frame", pa.int64()),
        pa.field("tracklet", pa.string()),
    ]
)
"""One row per image: its path below the source's root (the key), bytes, and its labels.

`offset` is the position of a tar member's bytes in the tar; null for a separate file.
"""
