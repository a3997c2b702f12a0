"""The times of touched images, beside the log."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from pipeline.gallery.files import storage
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.sidecars.seen import add_seen, read_seen
from pipeline.schemas import SEEN_SCHEMA


def seen(**times):
    rows = [
        {"row_id": int(name[1:]), "mtime": dt.datetime(2026, 1, day, tzinfo=dt.UTC)}
        for name, day in times.items()
    ]
    return pa.Table.from_pylist(rows, SEEN_SCHEMA)


def test_later_times_replace_earlier_ones_and_removed_rows_are_forgotten(tmp_path):
    location = str(tmp_path)
    assert len(read_seen(location)) == 0
    add_seen(location, seen(r3=1, r1=2, r2=3), np.arange(9))
    assert read_seen(location).equals(seen(r1=2, r2=3, r3=1))
    add_seen(location, seen(r1=5), np.array([1, 3, 4]))
    assert read_seen(location).equals(seen(r1=5, r3=1))
    assert {path.name for path in tmp_path.iterdir()} == {storage.SEEN_FILE, "_checksums"}


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / storage.SEEN_FILE).write_bytes(b"no table")
    with pytest.raises(GalleryDamagedError, match=r"_seen\.parquet.*delete it"):
        read_seen(str(tmp_path))
