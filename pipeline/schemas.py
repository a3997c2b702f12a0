"""Tables that packages exchange: the results of a listing, and the contents of a gallery."""

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")
"""Microseconds, UTC: for captures and files."""

REJECT_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("mtime", TIMESTAMP),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
"""A row for each input that gave no row: a short reason to count by, a sentence to read."""

SEEN_SCHEMA = pa.schema([("row_id", pa.int64()), ("mtime", TIMESTAMP)])
"""A row whose image was found with another time, but with the bytes of its extraction."""
