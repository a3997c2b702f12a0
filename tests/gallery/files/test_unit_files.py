"""Units on the disk: whole or not there."""

import json
import os
import pickle
import threading
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError, RunError
from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.row_files import delta_statistics, write_row_file
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.files.unit_files import UnitTarget, read_unit_record, write_unit
from pipeline.gallery.found_units import find_units
from tests.gallery.making import (
    FINGERPRINT,
    path_of,
    rejects_table,
    unit,
    unit_rows,
)

NO_REJECTS = rejects_table([])


@pytest.fixture
def target(tmp_path):
    return UnitTarget(str(tmp_path / "g"), FINGERPRINT, 8, "float32")


def names(folder):
    """The files of a folder but its lock."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "_lock")
    return sorted(str(path.relative_to(folder)) for path in paths)


def with_records(*files):
    """The names of files and of the records of their checksums."""
    return sorted([*files, *(f"_checksums/{name}.json" for name in files)])


def test_a_unit_and_its_rejects(target, tmp_path):
    record = unit(target, range(10, 20), rejected=[12, 19])
    assert (record.rows, record.rejects, record.members) == (8, 2, 10)
    assert (record.first_row_id, record.end_row_id) == (10, 20)
    rows = pq.read_table(tmp_path / "g" / record.path)
    assert rows["row_id"].to_pylist() == [10, 11, 13, 14, 15, 16, 17, 18]
    rejects = pq.read_table(tmp_path / "g" / record.rejects_path)
    assert rejects["path"].to_pylist() == [path_of(12), path_of(19)]
    assert names(tmp_path / "g") == with_records(record.path, record.rejects_path)
    assert find_units(target, 0).units == (record,)


def test_a_unit_of_rejects_only_leaves_its_record(target, tmp_path):
    record = unit(target, range(3), rejected=range(3))
    assert (record.path, record.rows, record.rejects, record.bytes) == (None, 0, 3, 0)
    assert names(tmp_path / "g") == with_records(record.rejects_path)
    assert find_units(target, 0).units == (record,)


def test_the_layout_of_a_file(target, tmp_path):
    record = unit(target, range(2048))
    metadata = pq.read_metadata(tmp_path / "g" / record.path)
    assert metadata.num_row_groups == 1
    columns = {
        metadata.row_group(0).column(i).path_in_schema: metadata.row_group(0).column(i)
        for i in range(metadata.num_columns)
    }
    feature = columns["feature"]
    assert feature.compression == "UNCOMPRESSED"
    assert feature.physical_type == "FIXED_LEN_BYTE_ARRAY"
    assert not feature.has_dictionary_page
    assert feature.total_compressed_size < 2048 * 32 + 200  # one page: bytes and one header
    assert {name for name, column in columns.items() if column.is_stats_set} == {
        "row_id",
        "camera",
        "captured_at",
    }


def test_the_same_unit_has_the_same_bytes(target, tmp_path):
    other = UnitTarget(str(tmp_path / "h"), FINGERPRINT, 8, "float32")
    one, two = unit(target, range(50), rejected=[3]), unit(other, range(50), rejected=[3])
    assert one == two
    for name in (one.path, one.rejects_path):
        assert (tmp_path / "g" / name).read_bytes() == (tmp_path / "h" / name).read_bytes()


def test_the_second_writer_loses_quietly(target, tmp_path):
    first = unit(target, range(5), unit_id="u")
    before = (tmp_path / "g" / first.path).stat()
    assert unit(target, range(5), unit_id="u") == first
    after = (tmp_path / "g" / first.path).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_loser_that_saw_other_rejects_changes_nothing(target, tmp_path):
    first = unit(target, range(5), rejected=[1], unit_id="u")
    assert unit(target, range(5), rejected=[2], unit_id="u") == first
    assert unit(target, range(5), rejected=range(5), unit_id="u") == first
    found = find_units(target, 0)
    assert found.units == (first,)
    assert len(found.orphans) == 2
    rejects = pq.read_table(tmp_path / "g" / first.rejects_path)
    assert rejects["path"].to_pylist() == [path_of(1)]


def test_many_writers_of_one_unit_agree(target):
    records = []
    threads = [
        threading.Thread(target=lambda: records.append(unit(target, range(40), rejected=[7])))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records) == 6
    assert set(records) == {find_units(target, 0).units[0]}
    assert find_units(target, 0).orphans == ()


def test_uncommitted_rejects_and_half_files_are_not_listed(target, tmp_path):
    record = unit(target, range(6), rejected=[2])
    (tmp_path / "g" / "_units" / ".x.tmp").write_bytes(b"half")
    assert ds.dataset(tmp_path / "g", format="parquet").files == [str(tmp_path / "g" / record.path)]


@pytest.mark.parametrize("failing", ["write", "sync", "check", "link"])
def test_a_writer_that_fails_leaves_no_unit(target, tmp_path, monkeypatch, failing):
    def fail(*_, **__):
        raise OSError(28, "no space left on device")

    broken = {
        "write": (pq, "write_table"),
        "sync": (os, "fsync"),
        "check": (pq, "read_metadata"),
        "link": (os, "link"),
    }[failing]
    (tmp_path / "g" / "_units").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(*broken, fail)
        with pytest.raises((OSError, RunError)):
            unit(target, range(6), unit_id="u")
    assert find_units(target, 0).units == ()
    assert names(tmp_path / "g") == []
    assert unit(target, range(6), unit_id="u").rows == 6


def test_a_file_cut_short_before_its_name_is_not_linked(target, tmp_path, monkeypatch):
    def cut(path):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)

    monkeypatch.setattr(storage, "sync_file", cut)
    with pytest.raises(GalleryDamagedError, match="no whole Parquet file"):
        unit(target, range(6), unit_id="u")
    assert names(tmp_path / "g") == []


def damage(path, how):
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "other file":
        path.write_text("hello")


@pytest.mark.parametrize("how", ["empty", "cut", "other file"])
def test_a_damaged_unit_is_told_and_can_be_written_again(target, tmp_path, how):
    good = unit(target, range(5), unit_id="a")
    bad = unit(target, range(5, 9), rejected=[6], unit_id="b")
    damage(tmp_path / "g" / bad.path, how)
    found = find_units(target, 0)
    assert found.units == (good,)
    [(path, reason)] = found.damaged
    assert path == tmp_path / "g" / bad.path
    assert str(path) in reason
    assert found.orphans == (tmp_path / "g" / bad.rejects_path,)
    assert unit(target, range(5, 9), rejected=[6], unit_id="b") == bad
    assert find_units(target, 0).units == (good, bad)


@pytest.mark.parametrize("how", ["gone", "empty", "cut", "other file"])
def test_a_unit_without_its_rejects_is_damaged(target, tmp_path, how):
    bad = unit(target, range(5, 9), rejected=[6])
    damage(tmp_path / "g" / bad.rejects_path, how)
    found = find_units(target, 0)
    assert found.units == ()
    assert tmp_path / "g" / bad.path in dict(found.damaged)
    assert bad.rejects_path in " ".join(reason for _, reason in found.damaged)


@pytest.mark.parametrize("how", ["empty", "cut", "other file"])
def test_damaged_rejects_of_a_unit_of_rejects_are_told(target, tmp_path, how):
    bad = unit(target, range(4), rejected=range(4))
    damage(tmp_path / "g" / bad.rejects_path, how)
    found = find_units(target, 0)
    assert found.units == ()
    assert [path for path, _ in found.damaged] == [tmp_path / "g" / bad.rejects_path]


def rewrite(path, change, about=None):
    """Replaces a unit's file by one with other rows or another description."""
    table = pq.read_table(path)
    described = json.loads(table.schema.metadata[b"regallery.unit"])
    described.update(about or {})
    table = change(table).replace_schema_metadata({b"regallery.unit": json.dumps(described)})
    checksums.write_recorded(path, lambda temporary: write_row_file(temporary, table))


@pytest.mark.parametrize(
    ("change", "about", "message"),
    [
        (lambda rows: rows.slice(1), {}, "4 rows where 5 were written"),
        (lambda rows: rows.drop_columns("frame"), {}, "columns are not the gallery's"),
        (lambda rows: rows, {"fingerprint": "other"}, "recipe other is not the gallery's"),
        (lambda rows: rows, {"members": 6}, "rows and rejects are not the unit's members"),
        (lambda rows: rows, {"more": 6}, "does not name its unit"),
    ],
)
def test_a_file_that_is_no_such_unit(target, tmp_path, change, about, message):
    record = unit(target, range(5))
    rewrite(tmp_path / "g" / record.path, change, about)
    with pytest.raises(GalleryDamagedError, match=message):
        read_unit_record(tmp_path / "g", record.path, target)


def test_a_parquet_file_of_another_tool_under_a_unit_name(target, tmp_path):
    (tmp_path / "g").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "g" / "000000000000-u.parquet")
    [(_, reason)] = find_units(target, 0).damaged
    assert "it has no valid checksum in" in reason


def test_other_files_are_left_alone(target, tmp_path):
    (tmp_path / "g" / "_units").mkdir(parents=True)
    for name in ("part-00000.parquet", "rows.csv", "12-u.parquet"):
        (tmp_path / "g" / name).write_text("x")
    assert find_units(target, 0) == find_units(
        UnitTarget(str(tmp_path / "no"), "", 8, "float32"), 0
    )


def test_row_ids_given_before_are_no_leftovers(target):
    unit(target, range(5))
    unit(target, range(5, 9), rejected=range(5, 9))
    late = unit(target, range(9, 12))
    assert find_units(target, 9).units == (late,)
    assert find_units(target, 12).units == ()
    assert len(find_units(target, 12).orphans) == 1  # the rejects of a committed unit


def test_units_of_two_plans_do_not_mix(target):
    first = unit(target, range(10), unit_id="a")
    second = unit(target, range(5, 15), unit_id="b")
    third = unit(target, range(10, 15), unit_id="c")
    found = find_units(target, 0)
    assert found.units == (first, third)
    [(path, reason)] = found.damaged
    assert path.name == second.path
    assert "overlap those of unit a" in reason


@pytest.mark.parametrize(
    ("unit_id", "row_ids", "ids", "message"),
    [
        ("a/b", range(2), [0, 1], "unit id 'a/b'"),
        ("", range(2), [0, 1], "unit id ''"),
        ("u", range(0), [], "is not a run of 1 to 16384"),
        ("u", range(0, 4, 2), [0, 2], "is not a run of 1 to 16384"),
        ("u", range(-2, 0), [0, 1], "is not a run of 1 to 16384"),
        ("u", range(16385), range(16385), "is not a run of 1 to 16384"),
        ("u", range(3), [0, 1], "2 rows and 0 rejects of 3 members"),
        ("u", range(2), [1, 0], "ascend within range"),
        ("u", range(2), [0, 0], "ascend within range"),
        ("u", range(2), [1, 2], "ascend within range"),
        ("u", range(1, 3), [0, 1], "ascend within range"),
    ],
)
def test_what_is_no_unit(target, unit_id, row_ids, ids, message):
    rows = unit_rows(target, list(ids), [f"p{i}" for i in range(len(ids))])
    with pytest.raises(InputError, match=message):
        write_unit(target, unit_id, row_ids, rows, NO_REJECTS)


def test_members_have_distinct_paths(target):
    with pytest.raises(InputError, match="two members have the same path"):
        unit(target, range(3), paths=["a", "b", "a"])
    with pytest.raises(InputError, match="two members have the same path"):
        unit(target, range(3), rejected=[2], paths=["a", "b", "a"])


@pytest.mark.parametrize("name", ["row_id", "path", "feature"])
def test_nulls_are_refused(target, name):
    rows = unit_rows(target, [0, 1], ["a", "b"])
    index, field = rows.schema.get_field_index(name), target.schema.field(name)
    column = pa.array([rows[name][0].as_py(), None], field.type)
    with pytest.raises(InputError, match=f"null {name}"):
        write_unit(target, "u", range(2), rows.set_column(index, field, column), NO_REJECTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop_columns("frame"), "the column frame is missing"),
        (lambda rows: rows.append_column("x", pa.array([1, 2])), "the columns are .*, x; they"),
        (
            lambda rows: rows.set_column(2, "identity", pa.array([1, 2], pa.int32())),
            "identity: int32 should be identity: int64",
        ),
        (lambda rows: rows.select(rows.column_names[::-1]), "the columns are feature, "),
    ],
)
def test_rows_of_another_schema(target, change, message):
    rows = change(unit_rows(target, [0, 1], ["a", "b"]))
    with pytest.raises(InputError, match=message):
        write_unit(target, "u", range(2), rows, NO_REJECTS)


def test_statistics_for_the_log(tmp_path, target):
    rows = unit_rows(target, [4, 7, 9], ["a", "b", "c"])
    times = [datetime(2024, 5, 1, 8, 0, 0, 1500, UTC), None, datetime(2024, 5, 2, 9, 0, 0, 7, UTC)]
    index = rows.schema.get_field_index("captured_at")
    field = rows.schema.field(index)
    write_row_file(tmp_path / "f", rows.set_column(index, field, pa.array(times, field.type)))
    assert json.loads(delta_statistics(pq.read_metadata(tmp_path / "f"))) == {
        "numRecords": 3,
        "minValues": {"row_id": 4, "camera": "c0", "captured_at": "2024-05-01T08:00:00.001Z"},
        "maxValues": {"row_id": 9, "camera": "c1", "captured_at": "2024-05-02T09:00:00.001Z"},
        "nullCount": {"row_id": 0, "camera": 0, "captured_at": 1},
    }


def test_statistics_leave_out_long_names(tmp_path, target):
    rows = unit_rows(target, [0], ["a"])
    camera = rows.schema.field("camera")
    index = rows.schema.get_field_index("camera")
    long = rows.set_column(index, camera, pa.array(["c" * 33]))
    write_row_file(tmp_path / "f", long)
    statistics = json.loads(delta_statistics(pq.read_metadata(tmp_path / "f")))
    assert "camera" not in statistics["minValues"]
    assert "camera" in statistics["nullCount"]


def test_statistics_of_several_row_groups(tmp_path, target):
    ids = list(range(100, 20_100))
    table = pa.concat_tables([unit_rows(target, ids[:1], ["p"])] * len(ids))
    table = table.set_column(0, table.schema.field(0), pa.array(ids, pa.int64()))
    write_row_file(tmp_path / "f", table)
    metadata = pq.read_metadata(tmp_path / "f")
    assert metadata.num_row_groups == 3
    statistics = json.loads(delta_statistics(metadata))
    assert statistics["minValues"]["row_id"] == 100
    assert statistics["maxValues"]["row_id"] == 20_099


def test_statistics_that_another_tool_left_out_are_left_out(tmp_path, target):
    pq.write_table(unit_rows(target, [0], ["a"]), tmp_path / "f", write_statistics=False)
    assert json.loads(delta_statistics(pq.read_metadata(tmp_path / "f"))) == {
        "numRecords": 1,
        "minValues": {},
        "maxValues": {},
        "nullCount": {},
    }


def test_record_is_small(target):
    assert len(pickle.dumps(unit(target, range(2000), rejected=[5]))) < 1000
