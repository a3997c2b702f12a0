"""The features of one file: copied from where they lie, checked when first met."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.gallery.files import stored_rows
from pipeline.gallery.files.row_files import write_row_file
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.files.stored_rows import StoredRows, feature_groups
from pipeline.gallery.files.unit_files import UnitTarget
from tests.gallery.making import unit_rows, unit_vectors

ROWS = 50


def written(folder, dtype="float32", **options):
    """A file of 50 rows: by our own writer, or as other tools might with these options."""
    target = UnitTarget(str(folder), "", 8, dtype)
    rows = unit_rows(target, list(range(ROWS)), [str(i) for i in range(ROWS)])
    path = folder / "f.parquet"
    if options:
        pq.write_table(rows, path, **options)
    else:
        write_row_file(path, rows)
    return path


def read(rows, start, stop):
    out = np.empty((stop - start, 8), np.float32)
    rows.read(start, stop, out)
    return out


@pytest.fixture
def parquet_is_shut(monkeypatch):
    """After this no row group is read through Parquet."""

    def shut():
        def refuse(*_, **__):
            raise OSError("through Parquet")

        monkeypatch.setattr(pq.ParquetFile, "read_row_group", refuse)

    return shut


PLAIN = {"use_dictionary": False, "write_page_checksum": True, "row_group_size": 7}
OTHERS = [
    {"compression": "zstd"},
    {"use_dictionary": False, "compression": "none"},
    {"use_dictionary": ["feature"], "compression": "none", "write_page_checksum": True},
    {**PLAIN, "compression": "none", "data_page_size": 64, "write_batch_size": 1},
    {**PLAIN, "compression": "none", "data_page_version": "2.0"},
]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_our_files_are_read_without_parquet(tmp_path, parquet_is_shut, dtype):
    path = written(tmp_path, dtype)
    wanted = unit_vectors(range(ROWS))
    parquet_is_shut()
    rows = StoredRows(path, 8, dtype)
    for start, stop in [(3, 9), (0, ROWS), (49, 50), (7, 7)]:
        np.testing.assert_allclose(read(rows, start, stop), wanted[start:stop], atol=1e-3)
    if dtype == "float32":
        assert read(rows, 0, ROWS).tobytes() == wanted.tobytes()


def test_groups_that_another_writer_laid_out_plainly(tmp_path, parquet_is_shut):
    path = written(tmp_path, **PLAIN, compression="none")
    parquet_is_shut()
    rows = StoredRows(path, 8, "float32")
    assert read(rows, 5, 40).tobytes() == unit_vectors(range(5, 40)).tobytes()


@pytest.mark.parametrize("options", OTHERS)
def test_other_layouts_are_read_through_parquet(tmp_path, parquet_is_shut, options):
    path = written(tmp_path, **options)
    rows = StoredRows(path, 8, "float32")
    assert read(rows, 5, 40).tobytes() == unit_vectors(range(5, 40)).tobytes()
    parquet_is_shut()
    with pytest.raises(GalleryDamagedError, match="through Parquet"):
        read(rows, 5, 40)


def test_rows_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_rows, "_CHUNK_BYTES", 3 * 32)
    path = written(tmp_path)
    wanted = np.array([0, 2, 3, 17, 18, 19, 20, 21, 49])
    found = list(StoredRows(path, 8, "float32").take(wanted))
    assert [part for part, _ in found] == [slice(0, 3), slice(3, 6), slice(6, 9)]
    values = np.concatenate([values for _, values in found])
    assert values.tobytes() == unit_vectors(wanted).tobytes()


def flip_last_bit(path, row):
    data = bytearray(path.read_bytes())
    at = data.index(unit_vectors([row]).tobytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "first",
    [
        lambda rows: read(rows, 0, ROWS),
        lambda rows: read(rows, 0, 3),
        lambda rows: list(rows.take(np.array([1, 5]))),
    ],
)
def test_a_bit_that_changed_is_noticed_wherever_it_lies(tmp_path, first):
    """The lowest bit of a number: the length of the feature does not tell."""
    path = written(tmp_path)
    flip_last_bit(path, 30)
    rows = StoredRows(path, 8, "float32")
    for _ in range(2):
        with pytest.raises(GalleryDamagedError, match=r"f\.parquet.*checksum of its features"):
            first(rows)


def test_a_group_is_verified_once(tmp_path, monkeypatch):
    path = written(tmp_path)
    rows = StoredRows(path, 8, "float32")
    read(rows, 3, 5)

    def again(*_):
        raise AssertionError("verified again")

    monkeypatch.setattr(stored_rows.isal_zlib, "crc32", again)
    assert read(rows, 0, ROWS).tobytes() == unit_vectors(range(ROWS)).tobytes()
    list(rows.take(np.array([4, 6])))


def test_the_footer_may_be_known(tmp_path, monkeypatch):
    path = written(tmp_path, row_group_size=7, use_dictionary=False, write_page_checksum=True,
                   compression="none")  # fmt: skip
    groups = feature_groups(pq.read_metadata(path), 32)
    assert [(group.begin, group.count) for group in groups[-2:]] == [(42, 7), (49, 1)]

    def refuse(*_, **__):
        raise OSError("through Parquet")

    monkeypatch.setattr(pq, "ParquetFile", refuse)
    rows = StoredRows(path, 8, "float32", groups)
    assert read(rows, 5, 40).tobytes() == unit_vectors(range(5, 40)).tobytes()
    flip_last_bit(path, 47)
    with pytest.raises(GalleryDamagedError, match=r"f\.parquet.*checksum of its features"):
        list(rows.take(np.array([3, 44])))


def test_a_file_without_features_has_no_groups(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "f.parquet")
    assert feature_groups(pq.read_metadata(tmp_path / "f.parquet"), 32) is None


@pytest.mark.parametrize("keep", [0, 1000])
def test_a_file_that_is_cut_short_after_it_was_opened(tmp_path, keep):
    path = written(tmp_path)
    rows = StoredRows(path, 8, "float32")
    read(rows, 0, ROWS)
    with path.open("r+b") as file:
        file.truncate(keep)
    for again in (lambda: read(rows, 0, ROWS), lambda: list(rows.take(np.array([1, 40])))):
        with pytest.raises(GalleryDamagedError, match=r"f\.parquet"):
            again()


def test_a_file_that_goes_after_it_was_opened(tmp_path):
    path = written(tmp_path)
    rows = StoredRows(path, 8, "float32")
    read(rows, 0, ROWS)
    path.unlink()
    for again in (lambda: read(rows, 0, ROWS), lambda: list(rows.take(np.array([1, 40])))):
        with pytest.raises(GalleryDamagedError, match=r"f\.parquet"):
            again()


def test_a_file_without_features_or_rows(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "f.parquet")
    with pytest.raises(GalleryDamagedError, match="has no features"):
        read(StoredRows(tmp_path / "f.parquet", 8, "float32"), 0, 1)
    path = written(tmp_path)
    with pytest.raises(GalleryDamagedError, match="50 rows, fewer than the log says"):
        read(StoredRows(path, 8, "float32"), 0, 51)
