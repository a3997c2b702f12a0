"""The files of a gallery and how they are written."""

__all__ = [
    "npy_rows",
    "places",
    "rejects",
    "row_files",
    "schema",
    "storage",
    "stored_rows",
    "unit_files",
]
