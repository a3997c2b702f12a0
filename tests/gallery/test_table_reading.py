"""What a version tells: rows, features, conditions, its history."""

import errno
import pickle
import shutil
from datetime import UTC, datetime

import pytest

from pipeline.errors import InputError
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.table import Gallery
from tests.gallery.making import contents, expected, path_of, reject_paths, unit


def test_rows_in_row_id_order(gallery):
    rows = gallery.rows()
    assert rows["row_id"].to_pylist() == [*range(12), *range(13, 20)]
    assert rows["path"].to_pylist()[12] == path_of(13)
    assert rows.schema.metadata == {
        b"location": gallery.location.encode(),
        b"version": b"1",
    }
    assert gallery.rows(["camera", "path"]).column_names == ["camera", "path"]
    assert gallery.row_ids().tolist() == rows["row_id"].to_pylist()
    assert gallery.count == 19


def test_a_column_that_is_not_there(gallery):
    for name in ("feature", "color"):
        with pytest.raises(InputError, match=f"no column '{name}'"):
            gallery.rows(["path", name])


@pytest.mark.parametrize("how", ["gone", "cut", "shorter"])
def test_a_damaged_row_file_is_told_by_name(gallery, how):
    path = gallery._root / gallery.snapshot.files[1].path
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        shutil.copy(gallery._root / gallery.snapshot.files[0].path, path)
    with pytest.raises(GalleryDamagedError, match=path.name):
        gallery.rows()


def test_a_reading_error_of_no_file_is_told(gallery, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr("pipeline.gallery.scalar_columns.pq.ParquetFile", fail)
    with pytest.raises(GalleryDamagedError, match=r"too many open files\)$"):
        gallery.rows()


def test_selecting(gallery):
    assert gallery.select("camera = 'c1' and row_id > 3").tolist() == [4, 7, 10, 13, 16, 19]
    assert gallery.select("identity is null").tolist() == []
    later = gallery.commit([], run_id="x", removes=[4])
    assert 4 not in later.select("camera = 'c1'")
    assert 4 in gallery.select("camera = 'c1'")


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("color = 1", "does not work: No field named color. Valid fields are row_id, path,"),
        ("camera =", "cannot be read to its end"),
        ("; drop table", "cannot be read to its end"),
        ("row_id", "row_id alone is not a condition: compare it"),
        ("camera = 3", "compare text with text in quotes"),
        ("row_id > 'a'", "does not work: row_id holds whole numbers: 'a' is something else"),
        ("captured_at < '2020-99-99'", "captured_at holds times: '2020-99-99' is something else"),
        ("sum(row_id) > 3", r"SUM\(row_id\) is not allowed"),
    ],
)
def test_a_condition_that_does_not_work(gallery, where, reason):
    with pytest.raises(InputError, match=reason):
        gallery.select(where)


@pytest.mark.parametrize(
    "rest", ["adn row_id > 4", "row_id > 4", "; x", ")", ") adn (row_id > 4", "limit 1"]
)
def test_no_end_of_a_condition_is_dropped(gallery, rest):
    with pytest.raises(InputError, match="cannot be read to its end"):
        gallery.select(f"camera = 'c1' {rest}")


def test_a_condition_opens_no_file_that_cannot_hold_its_rows(gallery):
    where = f"row_id >= {gallery.snapshot.files[-1].min_row_id}"
    found = gallery.select(where).tolist()
    (gallery._root / gallery.snapshot.files[0].path).unlink()
    assert gallery.select(where).tolist() == found != []


def test_conditions_of_several_parts(gallery):
    assert gallery.select("camera = 'c1'").tolist() == [1, 4, 7, 10, 13, 16, 19]
    assert gallery.select("(row_id = 3) or row_id = 5 and not camera = 'c1'").tolist() == [3, 5]


def test_history(gallery):
    later = gallery.commit([], run_id="erase 3", removes=[3, 4])
    infos = later.history()
    assert [(i.version, i.run_id, i.rows_added, i.rows_removed, i.reject_count) for i in infos] == [
        (0, None, 0, 0, 0),
        (1, "first", 19, 0, 1),
        (2, "erase 3", 0, 2, 1),
    ]
    assert [i.operation for i in infos] == ["CREATE TABLE", "WRITE", "WRITE"]
    assert abs((datetime.now(UTC) - infos[2].timestamp).total_seconds()) < 600
    assert len(gallery.history()) == 2


def test_a_handle_travels(gallery):
    gallery.features()
    assert contents(pickle.loads(pickle.dumps(gallery))) == contents(gallery)


def test_readers_of_a_version_are_not_disturbed(gallery):
    before, rejects = contents(gallery), reject_paths(gallery)
    features = gallery.features()
    later = gallery.commit(
        [unit(gallery.target, range(20, 25), rejected=[21])], run_id="x", removes=[0, 13]
    )
    assert contents(gallery) == contents(Gallery.open(gallery.location, 1)) == before
    assert reject_paths(gallery) == rejects
    assert reject_paths(later) == [path_of(12), path_of(21)]
    assert (gallery.version, gallery.count, gallery.next_row_id) == (1, 19, 20)
    assert features.read(0, 19).tobytes() == gallery.features().read(0, 19).tobytes()
    assert contents(later) == expected(set(range(25)) - {0, 12, 13, 21})
