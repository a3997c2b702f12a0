"""A version for other tools."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError, RunError
from pipeline.gallery.files import storage
from pipeline.gallery.files.schema import SCALAR_COLUMNS, content_hash
from pipeline.gallery.files.unit_files import write_unit
from pipeline.gallery.formats import export as exporting
from pipeline.gallery.formats import faiss_files
from pipeline.gallery.formats.export import export_gallery
from tests.gallery.making import new_gallery, rejects_table, unit, unit_rows, unit_vectors


@pytest.fixture
def gallery(tmp_path):
    gallery = new_gallery(tmp_path / "g")
    units = [unit(gallery.target, range(10)), unit(gallery.target, range(10, 20), rejected=[12])]
    return gallery.commit(units, run_id="x")


IDS = [row_id for row_id in range(20) if row_id != 12]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("block", [1, 7 * 32, 1 << 20])
def test_features_and_rows(gallery, tmp_path, monkeypatch, block):
    monkeypatch.setattr(exporting, "_BLOCK_BYTES", block)
    monkeypatch.setattr(exporting, "_CSV_ROWS", 4)
    done = export_gallery(gallery, str(tmp_path / "out"))
    features = np.load(tmp_path / "out" / "features.npy")
    assert features.dtype == np.float32
    assert features.tobytes() == unit_vectors(IDS).tobytes()
    with (tmp_path / "out" / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(SCALAR_COLUMNS)
    assert [int(row["row_id"]) for row in rows] == IDS
    assert rows[3]["camera"] == "c0"
    assert rows[3]["captured_at"] == ""
    assert (done.rows, done.dimension, done.version) == (19, 8, 1)
    assert sorted(done.files) == [str(path) for path in sorted((tmp_path / "out").iterdir())]
    about = json.loads((tmp_path / "out" / "gallery.json").read_text())
    assert (about["version"], about["fingerprint"]) == (1, gallery.fingerprint)
    assert about["complete"] is True


def test_the_memory_map_works(gallery, tmp_path):
    export_gallery(gallery, str(tmp_path / "out"))
    mapped = np.load(tmp_path / "out" / "features.npy", mmap_mode="r")
    assert mapped.shape == (19, 8)


def test_every_kind_of_value(tmp_path):
    gallery = new_gallery(tmp_path / "g")
    path = 'c1/a "quoted", odd\nname ü.jpg'
    values = {
        "path": path,
        "camera": "",
        "captured_at": datetime(2024, 5, 1, 8, 30, 0, 123456, UTC),
        "frame": 7,
        "size": 2**40,
        "mtime": datetime(1999, 12, 31, 23, 59, 59, 0, UTC),
        "content_hash": content_hash(b"x"),
        "height": 128,
        "width": 64,
        "quality": 0.5,
        "tracklet": "a.mp4#t=7",
        "captured_until": datetime(2024, 5, 1, 8, 30, 1, 0, UTC),
        "boxes": 3,
        "origin": "/galleries/a",
        "origin_row": 2**40,
    }
    rows = unit_rows(gallery.target, [2**40], [path])
    for name, value in values.items():
        index = rows.schema.get_field_index(name)
        field = rows.schema.field(name)
        rows = rows.set_column(index, field, pa.array([value], field.type))
    row_ids = range(2**40, 2**40 + 1)
    record = write_unit(gallery.target, "u", row_ids, rows, rejects_table([]))
    export_gallery(gallery.commit([record], run_id="x"), str(tmp_path / "out"))
    with (tmp_path / "out" / "rows.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert row == {
        "row_id": str(2**40),
        "path": path,
        "identity": str(2**40 % 5 - 1),
        "camera": "",
        "captured_at": "2024-05-01T08:30:00.123456Z",
        "frame": "7",
        "size": str(2**40),
        "mtime": "1999-12-31T23:59:59.000000Z",
        "content_hash": content_hash(b"x").hex(),
        "height": "128",
        "width": "64",
        "quality": "0.5",
        "tracklet": "a.mp4#t=7",
        "captured_until": "2024-05-01T08:30:01.000000Z",
        "boxes": "3",
        "origin": "/galleries/a",
        "origin_row": str(2**40),
    }


@pytest.mark.parametrize("block", [1, 7 * 32, 1 << 20])
def test_parquet_with_lists(gallery, tmp_path, monkeypatch, block):
    monkeypatch.setattr(exporting, "_BLOCK_BYTES", block)
    export_gallery(gallery, str(tmp_path / "out"), "parquet")
    table = pq.read_table(tmp_path / "out" / "rows.parquet")
    assert table.column_names == [*SCALAR_COLUMNS, "feature"]
    assert table["row_id"].to_pylist() == IDS
    assert pa.types.is_list(table["feature"].type)
    assert table["feature"].type.value_type == pa.float32()
    found = np.array(table["feature"].to_pylist(), dtype=np.float32)
    assert found.tobytes() == unit_vectors(IDS).tobytes()


@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_an_empty_gallery(tmp_path, form):
    done = export_gallery(new_gallery(tmp_path / "g"), str(tmp_path / "out"), form)
    assert done.rows == 0
    if form == "npy":
        assert np.load(tmp_path / "out" / "features.npy").shape == (0, 8)
        header = (tmp_path / "out" / "rows.csv").read_text().strip()
        assert header.replace('"', "").split(",") == list(SCALAR_COLUMNS)
    else:
        assert pq.read_table(tmp_path / "out" / "rows.parquet").num_rows == 0


def test_again_gives_the_same_files(gallery, tmp_path):
    out = tmp_path / "out"
    export_gallery(gallery, str(out))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    export_gallery(gallery, str(out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_no_file_of_an_earlier_export_stays(gallery, tmp_path):
    export_gallery(gallery, str(tmp_path / "out"))
    storage.temporary_name(tmp_path / "out", "features.npy").write_text("of a killed export")
    export_gallery(gallery, str(tmp_path / "out"), "parquet")
    assert names(tmp_path / "out") == ["gallery.json", "rows.parquet"]


def test_a_folder_with_other_files_is_left_alone(gallery, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"holds other files \(thesis\.tex\)"):
        export_gallery(gallery, str(tmp_path / "out"))
    assert names(tmp_path / "out") == ["thesis.tex"]


def test_files_of_the_same_name_that_are_not_ours_are_left_alone(gallery, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "features.npy").write_text("somebody's work")
    for about in ("not JSON", "3", "{}"):
        (tmp_path / "out" / "gallery.json").write_text(about)
        with pytest.raises(InputError, match=r"holds other files \(features\.npy\)"):
            export_gallery(gallery, str(tmp_path / "out"))
    assert (tmp_path / "out" / "features.npy").read_text() == "somebody's work"


def test_a_file_is_no_folder(gallery, tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(InputError, match="this is a file"):
        export_gallery(gallery, str(tmp_path / "out"))


def test_an_unknown_format(gallery, tmp_path):
    with pytest.raises(InputError, match="'h5' is unknown: choose one of npy, parquet"):
        export_gallery(gallery, str(tmp_path / "out"), "h5")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_an_export_that_fails_leaves_no_file_that_looks_whole(gallery, tmp_path, form):
    path = gallery._root / gallery.snapshot.files[1].path
    path.write_bytes(b"")
    with pytest.raises(RuntimeError, match=path.name):
        export_gallery(gallery, str(tmp_path / "out"), form)
    assert names(tmp_path / "out") == ["gallery.json"]
    assert json.loads((tmp_path / "out" / "gallery.json").read_text())["complete"] is False


def test_an_index_that_the_disk_has_no_room_for_is_told(gallery):
    pytest.importorskip("faiss")
    with pytest.raises(OSError, match="No space left"):
        faiss_files.write_index(gallery, Path("/dev/full"))


def test_an_export_that_was_killed_at_once_is_made_again(gallery, tmp_path):
    (tmp_path / "out").mkdir()
    storage.temporary_name(tmp_path / "out", "gallery.json").write_text("{")
    export_gallery(gallery, str(tmp_path / "out"))
    assert names(tmp_path / "out") == ["features.npy", "gallery.json", "rows.csv"]


def test_an_export_that_was_cut_off_is_made_again(gallery, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "_write_csv", fail)
        with pytest.raises(RunError, match=r"rows.csv: .*no space"):
            export_gallery(gallery, str(tmp_path / "out"))
    export_gallery(gallery, str(tmp_path / "out"))
    assert names(tmp_path / "out") == ["features.npy", "gallery.json", "rows.csv"]
