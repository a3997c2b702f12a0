"""Rejects of a version: one file, named by its content."""

import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.gallery.files.rejects import (
    NO_REJECTS,
    as_rejects,
    merged_rejects,
    read_rejects,
    rejects_file,
    write_rejects,
)
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.large_tables import ByPath
from pipeline.schemas import REJECT_SCHEMA
from tests.gallery.making import rejects_table


def paths(*names):
    return ByPath.of(pa.table({"path": pa.array(names, pa.string())}))


def test_the_listing_and_the_gallery_mean_the_same_rejects():
    assert REJECT_SCHEMA.equals(REJECT_SCHEMA)


def test_kept_and_found(tmp_path):
    rejects = rejects_table(["b", "ü,\n"])
    number = write_rejects(tmp_path, rejects)
    assert 0 < number < 2**63
    assert read_rejects(tmp_path, number).equals(rejects)
    assert write_rejects(tmp_path, rejects) == number
    assert [path.name for path in (tmp_path / "_rejects").iterdir()] == [f"{number:016x}.parquet"]


def test_no_rejects_need_no_file(tmp_path):
    assert write_rejects(tmp_path, rejects_table([])) == NO_REJECTS
    assert list(tmp_path.iterdir()) == []
    assert read_rejects(tmp_path, NO_REJECTS).equals(rejects_table([]))


def test_other_rejects_have_another_number(tmp_path):
    one = write_rejects(tmp_path, rejects_table(["a"]))
    assert write_rejects(tmp_path, rejects_table(["a"], "empty")) != one


def test_merging():
    present = rejects_table(["a", "b", "c", "d"], "old")
    after = merged_rejects(
        present, rejects_table(["b", "e"], "new"), paths("b", "c", "e"), ["d", "never seen"]
    )
    assert list(zip(after["path"].to_pylist(), after["reason"].to_pylist(), strict=True)) == [
        ("a", "old"),
        ("b", "new"),
        ("e", "new"),
    ]


def test_merging_nothing_changes_nothing():
    present = rejects_table(["a", "b"])
    assert merged_rejects(present, rejects_table([]), paths()).equals(present)
    assert merged_rejects(rejects_table([]), rejects_table([]), paths()).num_rows == 0


def test_a_path_is_rejected_once():
    with pytest.raises(InputError, match="same path"):
        merged_rejects(rejects_table([]), rejects_table(["a", "a"]), paths())


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_damage_is_told_by_name(tmp_path, how):
    number = write_rejects(tmp_path, rejects_table(["a"]))
    file = rejects_file(tmp_path, number)
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(GalleryDamagedError, match=file.name):
        read_rejects(tmp_path, number)


def test_more_columns_and_metadata_are_dropped():
    table = rejects_table(["a"]).append_column("tar", pa.array(["x"]))
    assert as_rejects(table.replace_schema_metadata({"a": "b"})).equals(rejects_table(["a"]))


def test_a_missing_column():
    with pytest.raises(InputError, match="without the column reason"):
        as_rejects(rejects_table(["a"]).drop_columns("reason"))


def test_a_column_of_another_type():
    table = rejects_table(["a"])
    with pytest.raises(InputError, match="wrong column"):
        as_rejects(table.set_column(1, "size", pa.array(["many"])))


@pytest.mark.parametrize("name", ["path", "reason", "detail"])
def test_a_null(name):
    table = rejects_table(["a"])
    index = table.schema.get_field_index(name)
    with pytest.raises(InputError, match=f"null {name}"):
        as_rejects(table.set_column(index, name, pa.array([None], pa.string())))
