"""The columns of row files: those of a loop over all rows, and nothing else is read."""

import errno

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.gallery import scalar_columns
from pipeline.gallery.features import index_positions
from pipeline.gallery.files.places import root_of
from pipeline.gallery.files.schema import SCALAR_COLUMNS
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.files.unit_files import UnitTarget
from pipeline.gallery.log.conditions import parse
from pipeline.gallery.log.ranges import Ranges
from pipeline.gallery.log.transactions import RowFile, Snapshot
from pipeline.gallery.scalar_columns import find_rows, read_columns, read_rows
from tests.gallery.making import make_files, path_of, unit_rows

GROUP = 7
GROUPS = [range(30), range(30, 35), range(35, 60), range(60, 61)]
COLUMNS = ["path", "row_id", "camera", "identity"]


def table_of(ids):
    return unit_rows(UnitTarget("", "", 8, "float32"), list(ids), [path_of(i) for i in ids])


def written(root, **options):
    """Four files whose row groups hold seven rows."""
    files = []
    for ids in GROUPS:
        path = root / f"{ids.start:012d}-x.parquet"
        options = {"use_dictionary": False, "compression": "none", **options}
        half = pa.BufferOutputStream()
        pq.write_table(table_of(ids), half, row_group_size=GROUP, **options)
        path.write_bytes(half.getvalue().to_pybytes())
        files.append(RowFile(path.name, path.stat().st_size, len(ids), ids[0], ids[-1]))
    return files


@pytest.fixture(params=["disk", "s3"])
def root(request, tmp_path):
    return tmp_path if request.param == "disk" else root_of(request.getfixturevalue("bucket"))


def found_by(root, files, where, columns=("row_id",)):
    """Without statistics in the log, so that every file may hold such a row."""
    counts = pa.table({"num_records": [file.rows for file in files]})
    ranges = Ranges.of(counts, range(len(files)))
    snapshot = Snapshot(1, {}, tuple(files), 61, 0, ranges)
    return list(find_rows(root, snapshot, parse(where), columns))


def rows_of(root, file, rows, columns):
    rows = np.array(rows)
    return read_rows(root, [file], [(0, rows, np.arange(len(rows)))], columns)


WHERE = [
    ("row_id in (3, 20, 44)", lambda row: row["row_id"] in (3, 20, 44)),
    ("camera = 'c1' and row_id > 8", lambda row: row["camera"] == "c1" and row["row_id"] > 8),
    ("row_id = 99", lambda row: False),
    ("identity = 2 or row_id = 60", lambda row: row["identity"] == 2 or row["row_id"] == 60),
    ("cast(camera as text) = 'c0'", lambda row: row["camera"] == "c0"),
]


@pytest.mark.parametrize(("where", "fits"), WHERE)
@pytest.mark.parametrize("at_once", [1, 3, 512])
def test_rows_for_which_a_condition_holds(root, monkeypatch, where, fits, at_once):
    monkeypatch.setattr(scalar_columns, "FILES_AT_ONCE", at_once)
    files = written(root)
    told = []
    for part in found_by(root, files, where, ["path", "row_id"]):
        assert sorted(part.footers) == sorted(set(part.files.tolist()))
        told += zip(part.table.to_pylist(), part.files.tolist(), part.rows.tolist(), strict=True)
    wanted = [
        ({"path": row["path"], "row_id": row["row_id"]}, number, at)
        for number, ids in enumerate(GROUPS)
        for at, row in enumerate(table_of(ids).to_pylist())
        if fits(row)
    ]
    assert told == wanted


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_rows_of_some_files(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("files")
    files = written(root)
    runs = index_positions(root, files)
    positions = np.array(data.draw(st.lists(st.integers(0, 60), max_size=20)), np.int64)
    found = read_rows(root, files, runs.by_file(positions), COLUMNS)
    assert found.to_pylist() == table_of(range(61)).select(COLUMNS).take(positions).to_pylist()


def test_all_rows(root):
    together = pa.concat_tables([table_of(ids) for ids in GROUPS]).select(SCALAR_COLUMNS)
    found = read_columns(root, written(root), SCALAR_COLUMNS)
    assert found.schema == together.schema.remove_metadata()
    assert found.to_pylist() == together.to_pylist()
    assert read_columns(root, [], ["path"]).column_names == ["path"]


@pytest.fixture
def damaged(tmp_path):
    """The second row group of the first file has other bytes than were written; its checksums
    tell.
    """
    files = written(tmp_path, write_page_checksum=True)
    path = tmp_path / files[0].path
    footer = pq.read_metadata(path)
    data = bytearray(path.read_bytes())
    for column in range(len(SCALAR_COLUMNS)):
        about = footer.row_group(1).column(column)
        data[about.data_page_offset + about.total_compressed_size - 1] ^= 1
    path.write_bytes(data)
    return tmp_path, files


def test_row_groups_that_cannot_match_are_not_read(damaged):
    (part,) = found_by(*damaged, "row_id < 7 or row_id >= 14 and row_id < 21")
    assert part.table["row_id"].to_pylist() == [*range(7), *range(14, 21)]
    assert rows_of(damaged[0], damaged[1][0], [0, 29], ["row_id"]).num_rows == 2
    with pytest.raises(GalleryDamagedError, match=r"000000000000-x\.parquet.*; restore it"):
        found_by(*damaged, "row_id = 8")
    with pytest.raises(GalleryDamagedError, match=r"000000000000-x\.parquet.*; restore it"):
        rows_of(damaged[0], damaged[1][0], [7], ["path"])


def test_a_condition_that_may_fail_reads_every_row_group(damaged):
    """Else it would depend on the order of the rows whether it fails."""
    with pytest.raises(GalleryDamagedError):
        found_by(*damaged, "row_id = 3 and cast(identity as text) = '3'")


def test_files_in_the_form_of_another_tool(tmp_path):
    """With other types of the same values, in another order, and without the later columns."""
    table = table_of(range(30))
    names = ["camera", *(name for name in SCALAR_COLUMNS if name not in ("camera", "origin"))]
    types = {"path": pa.large_string(), "camera": pa.dictionary(pa.int32(), pa.string())}
    fields = [pa.field(n, types.get(n, table.schema.field(n).type)) for n in names]
    theirs = table.select(names).cast(pa.schema(fields))
    pq.write_table(theirs, tmp_path / "theirs.parquet", row_group_size=GROUP)
    file = RowFile("theirs.parquet", 1, 30, 0, 29)
    ours = table.select(SCALAR_COLUMNS)
    assert read_columns(tmp_path, [file], SCALAR_COLUMNS).to_pylist() == ours.to_pylist()
    (part,) = found_by(tmp_path, [file], "camera = 'c2' and origin is null")
    assert part.rows.tolist() == list(range(2, 30, 3))
    some = [0, 8, 29]
    assert rows_of(tmp_path, file, some, ["path", "origin"]).to_pylist() == (
        ours.select(["path", "origin"]).take(some).to_pylist()
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "the file is gone; restore it"),
        (lambda path: path.write_bytes(b"x" * 99), "the file cannot be read .*; restore it"),
        (
            lambda path: pq.write_table(table_of(range(4)), path),
            "4 rows where the log says 5",
        ),
    ],
)
def test_damage_is_told_by_name(tmp_path, damage, message):
    files = make_files(UnitTarget(str(tmp_path), "", 8, "float32"), tmp_path, GROUPS)
    damage(tmp_path / files[1].path)
    for read in (
        lambda: read_columns(tmp_path, files, ["row_id"]),
        lambda: rows_of(tmp_path, files[1], [2], ["row_id"]),
        lambda: found_by(tmp_path, files, "row_id > 3"),
    ):
        with pytest.raises(GalleryDamagedError, match=f"{files[1].path}: {message}"):
            read()


def test_an_error_of_the_system_is_no_damage(tmp_path, monkeypatch):
    files = written(tmp_path)

    def fail(*_, **__):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(pq, "ParquetFile", fail)
    with pytest.raises(GalleryDamagedError, match=r"too many open files\)$"):
        read_columns(tmp_path, files, ["row_id"])
