"""What the log's statistics rule out: for runs of files, no more and no less than for each."""

import random

import pyarrow as pa
import pytest

from pipeline.gallery.log.conditions import parse
from pipeline.gallery.log.ranges import Ranges

FILES = 150


def actions_of(seed):
    """The statistics of many files: of some columns there are none, of others all is null."""
    draw = random.Random(seed)
    files = []
    for number in range(FILES):
        rows, kind = draw.randint(1, 9), draw.choice(["full", "some", "null", "unknown", "open"])
        low, high = sorted(draw.choices(["a", "b", "c", "d"], k=2))
        nulls = {"full": 0, "some": rows - 1, "null": rows, "unknown": None, "open": 0}[kind]
        has_range = kind in ("full", "some", "unknown")
        first = number * 10 + draw.randint(-4, 4)
        files.append(
            {
                "num_records": rows,
                "min.row_id": first,
                "max.row_id": first + draw.randint(0, 12),
                "null_count.row_id": 0,
                "min.camera": low if has_range else None,
                "max.camera": high if has_range else None,
                "null_count.camera": nulls,
            }
        )
    return files


def may_be(file, camera):
    """Whether a file may hold a row of a camera."""
    nulls, rows = file["null_count.camera"], file["num_records"]
    if nulls == rows:
        return False
    is_known = nulls is not None and file["min.camera"] is not None
    return not is_known or file["min.camera"] <= camera <= file["max.camera"]


def may_be_null(file):
    nulls, rows = file["null_count.camera"], file["num_records"]
    is_known = nulls is not None and (nulls == rows or file["min.camera"] is not None)
    return not is_known or nulls > 0


def reaches(file, low, high):
    return file["max.row_id"] >= low and file["min.row_id"] <= high


CASES = [
    ("row_id between 700 and 760", lambda file: reaches(file, 700, 760)),
    ("camera = 'b'", lambda file: may_be(file, "b")),
    ("camera is null", may_be_null),
    (
        "row_id >= 1400 or camera = 'a' and row_id < 300",
        lambda file: file["max.row_id"] >= 1400 or (may_be(file, "a") and file["min.row_id"] < 300),
    ),
    ("row_id = -999", lambda file: False),
    ("captured_at > '2026-01-01'", lambda file: True),
    ("identity = 3", lambda file: True),
]


@pytest.mark.parametrize(("where", "fits"), CASES)
@pytest.mark.parametrize("seed", range(4))
def test_the_files_that_may_hold_a_row(where, fits, seed):
    files = actions_of(seed)
    order = list(range(FILES))[:: 1 if seed % 2 else -1]
    ranges = Ranges.of(pa.Table.from_pylist(files), order)
    found = parse(where).possible_files(ranges)
    assert found == [at for at, number in enumerate(order) if fits(files[number])]


def test_no_files():
    ranges = Ranges.of(pa.Table.from_pylist(actions_of(0)), [])
    assert (len(ranges), parse("row_id = 3").possible_files(ranges)) == (0, [])
