"""Tables in a file, and rows by path, against the same in memory."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import large_tables
from pipeline.errors import RunError
from pipeline.large_tables import ByPath, TableWriter, ranges

SCHEMA = pa.schema([("path", pa.string()), ("number", pa.int64())])


@pytest.fixture(params=[False, True], ids=["held", "mapped"])
def small(request, monkeypatch):
    """The same with tables that are held, and with tables of four rows that go to a file."""
    if request.param:
        shrink(monkeypatch)
    return request.param


def shrink(monkeypatch):
    for name, value in (("ROWS_HELD", 4), ("_BATCH_ROWS", 3), ("_STEP", 2), ("_STEPS", 2)):
        monkeypatch.setattr(large_tables, name, value)


def table(paths, first=0):
    return pa.table({"path": paths, "number": range(first, first + len(paths))}, schema=SCHEMA)


def test_a_table_is_what_was_added(small):
    writer = TableWriter(SCHEMA)
    parts = [table(["a", "b"]), table([]), table(["c"], 2), table(list("defgh"), 3)]
    for part in parts:
        writer.add(part)
    made = writer.finish()
    assert made.equals(pa.concat_tables(parts))
    assert made["path"].num_chunks == 1
    made.validate(full=True)


def test_an_empty_table_has_its_columns(small):
    assert TableWriter(SCHEMA).finish().equals(SCHEMA.empty_table())
    assert ByPath(SCHEMA).table().equals(SCHEMA.empty_table())
    assert list(ranges(ByPath(SCHEMA))) == []


def test_parts_are_not_divided(small):
    writer = TableWriter(SCHEMA)
    for start in range(0, 14, 2):
        writer.add(table(["x", "y"], start))
    chunks = writer.finish()["path"].chunks
    assert all(len(chunk) % 2 == 0 for chunk in chunks)
    assert len(chunks) == (3 if small else 1)


def test_a_mapped_table_leaves_no_file_and_no_descriptor(monkeypatch, tmp_path):
    shrink(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    writer = TableWriter(SCHEMA)
    writer.add(table(list("abcdefgh")))
    made = writer.finish()
    del writer
    assert (made["path"].to_pylist(), list(tmp_path.iterdir())) == (list("abcdefgh"), [])
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1  # the mapping keeps one


def test_the_runs_of_many_rows_are_mapped(monkeypatch):
    shrink(monkeypatch)
    side = ByPath(SCHEMA)
    for number in range(6):
        side.add(table(list("ba"), 2 * number))
    before = pa.total_allocated_bytes()
    runs = side.runs()
    assert [len(run) for run in runs] == [4, 4, 4]
    del side
    assert [run["path"].to_pylist() for run in runs] == [list("aabb")] * 3
    assert pa.total_allocated_bytes() <= before
    assert all(buffer.parent is not None for buffer in runs[0]["path"].chunk(0).buffers()[1:])


def test_a_full_disk_is_told(monkeypatch, tmp_path):
    shrink(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(RunError, match=r"gone \(temporary file\): the file cannot be written"):
        TableWriter(SCHEMA).add(table(list("abcdefgh")))


def test_rows_of_a_table_of_more_than_two_gigabytes_of_text_are_taken():
    chunk = pa.array([f"{number:02d}" + "x" * 2**20 for number in range(8)])
    table = pa.table({"path": pa.chunked_array([chunk] * 300)})  # the same 8 MB, 300 times
    places = np.array([0, 7, 8, 2399])
    with pytest.raises(pa.ArrowInvalid, match="overflow"):
        table.take(pa.array(places))
    taken = large_tables.rows_at(table, places)
    assert [path[:2] for path in taken["path"].to_pylist()] == ["00", "07", "00", "07"]
    assert large_tables.rows_at(table, places[:0]).equals(table.schema.empty_table())


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=3), max_size=4))
def test_a_table_in_order_is_known_as_such(chunks):
    joined = [path for chunk in chunks for path in chunk]
    table = pa.table({"path": pa.chunked_array(chunks, pa.string())})
    assert large_tables._in_order(table["path"]) == (joined == sorted(joined))
    assert ByPath.of(table).table()["path"].to_pylist() == sorted(joined)


paths = st.lists(st.text("ab/é\U0001f600", max_size=3), max_size=30)


@given(st.lists(paths, max_size=5), paths)
def test_ranges_hold_all_rows_of_each_side_in_order(left, right):
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        side = ByPath(SCHEMA)
        count = 0
        for part in left:
            side.add(table(part, count))
            count += len(part)
        sides = side, ByPath.of_sorted(table(sorted(right)))
        assert [len(each) for each in sides] == [count, len(right)]
        seen = list(ranges(*sides))
        whole = sides[0].table()
    joined = [path for part in left for path in part]
    wanted = sorted(zip(joined, range(count), strict=True), key=lambda row: row[0])  # stable
    got = [row for found, _ in seen for row in zip(*found.to_pydict().values(), strict=True)]
    assert got == wanted == list(zip(*whole.to_pydict().values(), strict=True))
    assert [path for _, found in seen for path in found["path"].to_pylist()] == sorted(right)
    shared = [set(a["path"].to_pylist()) | set(b["path"].to_pylist()) for a, b in seen]
    assert sum(map(len, shared)) == len(set().union(*shared))  # equal paths are in one range
    if len(set(joined)) > 20:
        assert len(seen) > 1
