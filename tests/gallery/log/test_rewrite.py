"""Copy-on-write."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.files.unit_files import UnitTarget
from pipeline.gallery.log import rewrite
from pipeline.gallery.log.rewrite import row_ids_of_paths, without_rows
from pipeline.gallery.log.transactions import RowFile
from pipeline.large_tables import ByPath
from tests.gallery.making import make_files, path_of, unit_rows

TARGET = UnitTarget("", "", 8, "float32")


def ids_in(folder, files):
    return sorted(
        row_id
        for file in files
        for row_id in pq.read_table(folder / file.path)["row_id"].to_pylist()
    )


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_removed_rows_leave_and_all_others_stay(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("g")
    owners = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=30))
    groups = [[i for i, owner in enumerate(owners) if owner == group] for group in set(owners)]
    files = make_files(TARGET, folder, groups)
    gone = data.draw(st.lists(st.integers(0, len(owners) - 1), unique=True))
    touched, written = without_rows(folder, files, np.array(gone, np.int64), TARGET.schema)
    assert all(set(ids_in(folder, [file])) & set(gone) for file in touched)
    live = [file for file in files if file not in touched]
    assert ids_in(folder, [*live, *written]) == sorted(set(range(len(owners))) - set(gone))
    for file in written:
        table = pq.read_table(folder / file.path)
        assert table.schema.equals(TARGET.schema)
        ids = table["row_id"].to_pylist()
        assert ids == sorted(ids)
        assert table.equals(unit_rows(TARGET, ids, table["path"].to_pylist()))
        assert file.bytes == (folder / file.path).stat().st_size


def test_rows_that_are_not_there(tmp_path):
    files = make_files(TARGET, tmp_path, [[0, 2, 4]])
    with pytest.raises(InputError, match="2 of 3 rows to be removed are not in this version"):
        without_rows(tmp_path, files, np.array([2, 3, 9]), TARGET.schema)
    assert len(list(tmp_path.iterdir())) == 1


def test_features_that_another_tool_wrote_get_their_fixed_size_back(tmp_path):
    table = unit_rows(TARGET, [5, 3, 4], ["a", "b", "c"])
    index = table.schema.get_field_index("feature")
    foreign = table.set_column(index, "feature", table["feature"].cast(pa.binary()))
    pq.write_table(foreign, tmp_path / "part-0.parquet")
    file = RowFile("part-0.parquet", 1, 3, 3, 5)
    _, [written] = without_rows(tmp_path, [file], np.array([4]), TARGET.schema)
    found = pq.read_table(tmp_path / written.path)
    assert found.equals(unit_rows(TARGET, [3, 5], ["b", "a"]))


def test_a_damaged_file_is_told(tmp_path):
    files = make_files(TARGET, tmp_path, [[0, 1]])
    (tmp_path / files[0].path).write_bytes(b"PAR1")
    with pytest.raises(GalleryDamagedError, match=files[0].path):
        without_rows(tmp_path, files, np.array([0]), TARGET.schema)
    with pytest.raises(GalleryDamagedError, match=files[0].path):
        row_ids_of_paths(tmp_path, files, keys("a"))


def keys(*paths):
    return ByPath.of(pa.table({"path": pa.array(paths, pa.string())}))


@pytest.mark.parametrize("held", [2, 1000])
@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_row_ids_by_path(tmp_path, monkeypatch, batch, held):
    monkeypatch.setattr(rewrite, "_BATCH_ROWS", batch)
    monkeypatch.setattr(rewrite, "ROWS_HELD", held)
    files = make_files(TARGET, tmp_path, [[0, 1, 2], [3, 4], [5, 6, 7, 8]])
    paths = keys(path_of(7), path_of(0), "new", path_of(3))
    assert row_ids_of_paths(tmp_path, files, paths).tolist() == [0, 3, 7]


def test_row_ids_by_path_of_nothing(tmp_path):
    files = make_files(TARGET, tmp_path, [[0, 1, 2]])
    assert row_ids_of_paths(tmp_path, files, keys()).tolist() == []
    assert row_ids_of_paths(tmp_path, [], keys("a")).tolist() == []
