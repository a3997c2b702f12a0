"""Small sources to be listed, and what a listing says of them."""

from contextlib import contextmanager

import pytest

from pipeline import large_tables


def fill(root, *paths, data=b"x"):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


def paths(listing):
    return listing.images["path"].to_pylist()


def rejects(listing):
    return dict(
        zip(
            listing.rejects["path"].to_pylist(),
            listing.rejects["reason"].to_pylist(),
            strict=True,
        )
    )


@contextmanager
def tables_of(rows):
    """Tables of more than so many rows are mapped from files; None leaves the limit as it is."""
    with pytest.MonkeyPatch.context() as patch:
        if rows is not None:
            for name in ("ROWS_HELD", "_BATCH_ROWS", "_STEP", "_STEPS"):
                patch.setattr(large_tables, name, rows)
        yield
