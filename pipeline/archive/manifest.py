"""The tables of a listing: the images to extract, and the inputs that gave no row."""

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
"""One row an image: its path below the source's root (the key), bytes, and what its labels say.

`offset` is where the bytes of a tar's member begin in the tar; null for a file of its own.
"""
