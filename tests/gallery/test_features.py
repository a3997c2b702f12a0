"""Features by position in row-id order, from whatever files they lie in."""

import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.blocks import FeatureRows
from pipeline.gallery import features
from pipeline.gallery.features import GalleryFeatures, index_positions
from pipeline.gallery.files.schema import row_schema
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.files.unit_files import UnitTarget
from pipeline.gallery.log.transactions import RowFile
from tests.gallery.making import make_files, new_gallery, unit, unit_rows, unit_vectors


def features_of(folder, groups, dtype="float32", dimension=8):
    target = UnitTarget(str(folder), "", dimension, dtype)
    files = make_files(target, folder, groups)
    paths = tuple(file.path for file in files)
    return GalleryFeatures(str(folder), 0, dimension, dtype, paths, index_positions(folder, files))


def wanted(rows, dtype="float32"):
    """The oracle: each row's feature as it was written, renormalized where it was rounded."""
    exact = unit_vectors(rows)
    if dtype == "float32":
        return exact
    halves = exact.astype(np.float16).astype(np.float32)
    return halves / np.linalg.norm(halves, axis=1, keepdims=True)


@st.composite
def layouts(draw):
    """Which file holds which row ids: gaps, several files, now and then interleaved."""
    ids = sorted(draw(st.sets(st.integers(0, 60), min_size=1, max_size=40)))
    if draw(st.booleans()):
        cuts = sorted(draw(st.sets(st.integers(1, len(ids)), max_size=4)) | {len(ids)})
        groups = [ids[low:high] for low, high in zip([0, *cuts], cuts, strict=False)]
        return ids, [group for group in groups if group]
    owners = [draw(st.integers(0, 3)) for _ in ids]
    groups = [[i for i, o in zip(ids, owners, strict=True) if o == n] for n in range(4)]
    return ids, [group for group in groups if group]


@settings(max_examples=60, deadline=None)
@given(layout=layouts(), dtype=st.sampled_from(["float32", "float16"]), data=st.data())
def test_any_block_and_any_positions_of_any_files(tmp_path_factory, layout, dtype, data):
    ids, groups = layout
    found = features_of(tmp_path_factory.mktemp("g"), groups, dtype)
    expected = wanted(ids, dtype)
    assert len(found) == len(ids)
    whole = found.read(0, len(ids))
    np.testing.assert_allclose(whole, expected, atol=0 if dtype == "float32" else 2e-7)

    start = data.draw(st.integers(0, len(ids)))
    stop = data.draw(st.integers(start, len(ids)))
    block = found.read(start, stop)
    assert block.dtype == np.float32
    assert block.flags.c_contiguous
    assert block.tobytes() == whole[start:stop].tobytes()

    positions = np.array(data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=20)), np.int64)
    assert found.take(positions).tobytes() == whole[positions].tobytes()
    assert found.runs.positions_of(*found.runs.locate(positions)).tolist() == positions.tolist()


def test_files_that_do_not_interleave_are_not_opened_to_find_positions(tmp_path, monkeypatch):
    target = UnitTarget(str(tmp_path), "", 8, "float32")
    files = make_files(target, tmp_path, [[0, 2, 4], [5, 9], [10]])

    def fail(*_):
        raise AssertionError("a file was opened")

    monkeypatch.setattr(features, "read_columns", fail)
    runs = index_positions(tmp_path, files)
    assert runs.starts.tolist() == [0, 3, 5, 6]
    assert runs.rows.tolist() == [0, 0, 0]


def test_only_the_files_that_interleave_are_opened(tmp_path, monkeypatch):
    target = UnitTarget(str(tmp_path), "", 8, "float32")
    files = make_files(target, tmp_path, [[0, 1], [2, 4], [3, 5], [6]])
    opened, real = [], features.read_columns

    def noted(root, files, columns):
        opened.extend(files)
        return real(root, files, columns)

    monkeypatch.setattr(features, "read_columns", noted)
    runs = index_positions(tmp_path, files)
    assert opened == [files[1], files[2]]
    assert runs.starts.tolist() == [0, 2, 3, 4, 5, 6, 7]
    assert runs.files.tolist() == [0, 1, 2, 1, 2, 3]
    assert runs.rows.tolist() == [0, 0, 0, 1, 1, 0]


def test_a_file_of_another_tool_may_hold_its_rows_in_any_order(tmp_path):
    target = UnitTarget(str(tmp_path), "", 8, "float32")
    pq.write_table(unit_rows(target, [7, 3, 5], ["a", "b", "c"]), tmp_path / "part-0.parquet")
    files = [RowFile("part-0.parquet", 1, 3, 3, 7)]
    found = GalleryFeatures(
        str(tmp_path), 0, 8, "float32", ("part-0.parquet",), index_positions(tmp_path, files)
    )
    assert found.read(0, 3).tobytes() == unit_vectors([3, 5, 7]).tobytes()


def test_several_row_groups_and_chunks(tmp_path):
    target = UnitTarget(str(tmp_path), "", 8, "float32")
    rows = unit_rows(target, list(range(50)), [str(i) for i in range(50)])
    pq.write_table(rows, tmp_path / "000000000000-x.parquet", row_group_size=7, data_page_size=64)
    files = [RowFile("000000000000-x.parquet", 1, 50, 0, 49)]
    found = GalleryFeatures(
        str(tmp_path), 0, 8, "float32", (files[0].path,), index_positions(tmp_path, files)
    )
    expected = unit_vectors(range(50))
    for start in range(0, 50, 6):
        for stop in range(start, 51, 9):
            assert found.read(start, stop).tobytes() == expected[start:stop].tobytes()
    positions = np.array([49, 0, 7, 6, 0, 13, 14])
    assert found.take(positions).tobytes() == expected[positions].tobytes()


def test_only_the_row_groups_that_are_needed_are_read(tmp_path, monkeypatch):
    target = UnitTarget(str(tmp_path), "", 8, "float32")
    rows = unit_rows(target, list(range(50)), [str(i) for i in range(50)])
    pq.write_table(rows, tmp_path / "000000000000-x.parquet", row_group_size=10)
    files = [RowFile("000000000000-x.parquet", 1, 50, 0, 49)]
    found = GalleryFeatures(
        str(tmp_path), 0, 8, "float32", (files[0].path,), index_positions(tmp_path, files)
    )
    groups, real = [], pq.ParquetFile.read_row_group

    def spy(self, group, **options):
        groups.append((group, options["columns"]))
        return real(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    found.read(15, 25)
    found.take(np.array([48, 3, 49]))
    assert groups == [(group, ["feature"]) for group in (1, 2, 0, 4)]


def test_into_a_given_array(tmp_path):
    found = features_of(tmp_path, [[0, 1, 2], [3, 4]])
    out = np.zeros((6, 8), dtype=np.float32)
    assert np.shares_memory(found.read(1, 5, out=out[1:5]), out)
    assert out[1:5].tobytes() == unit_vectors([1, 2, 3, 4]).tobytes()
    assert not out[0].any()
    assert not out[5].any()
    found.take(np.array([4, 0]), out=out[:2])
    assert out[:2].tobytes() == unit_vectors([4, 0]).tobytes()


@pytest.mark.parametrize(
    "out", [np.zeros((3, 8), np.float32), np.zeros((2, 8)), np.zeros((2, 7), np.float32)]
)
def test_a_given_array_that_does_not_fit(tmp_path, out):
    found = features_of(tmp_path, [[0, 1, 2]])
    with pytest.raises(ValueError, match=r"float32 \[2, 8\] expected"):
        found.read(0, 2, out=out)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 4), (4, 4)])
def test_positions_outside(tmp_path, start, stop):
    found = features_of(tmp_path, [[0, 1, 2]])
    with pytest.raises(IndexError, match="a gallery of 3 rows"):
        found.read(start, stop)


@pytest.mark.parametrize("positions", [[-1], [0, 3]])
def test_taking_outside(tmp_path, positions):
    found = features_of(tmp_path, [[0, 1, 2]])
    with pytest.raises(IndexError, match="a gallery of 3 rows"):
        found.take(np.array(positions))


def test_taking_positions_of_two_dimensions(tmp_path):
    with pytest.raises(IndexError, match="one dimension"):
        features_of(tmp_path, [[0, 1]]).take(np.zeros((1, 1), np.int64))


def damaged(folder, how):
    """Features whose second file is damaged after the index was made."""
    found = features_of(folder, [[0, 1, 2], [3, 4, 5]])
    path = folder / found.paths[1]
    table = pq.read_table(path)
    if how == "gone":
        path.unlink()
    elif how == "no footer":
        path.write_bytes(path.read_bytes()[:-10])
    elif how == "shorter":
        pq.write_table(table.slice(0, 2), path)
    elif how == "no column":
        pq.write_table(table.drop_columns("feature"), path)
    elif how == "flipped bytes":
        data = bytearray(path.read_bytes())
        at = data.index(unit_vectors([4]).tobytes())
        data[at : at + 4] = b"\xff\xff\xff\x7f"
        path.write_bytes(data)
    elif how == "page header":
        data = bytearray(path.read_bytes())
        at = data.index(unit_vectors([3]).tobytes())
        data[at - 24 : at] = b"\xff" * 24
        path.write_bytes(data)
    return found, path


@pytest.mark.parametrize(
    "how", ["gone", "no footer", "shorter", "no column", "flipped bytes", "page header"]
)
def test_damage_is_told_by_name(tmp_path, how):
    found, path = damaged(tmp_path, how)
    assert found.read(0, 3).tobytes() == unit_vectors([0, 1, 2]).tobytes()
    for read in (
        lambda: found.read(2, 6),
        lambda: found.take(np.array([0, 5, 4])),
    ):
        with pytest.raises(GalleryDamagedError, match=path.name):
            read()


@pytest.mark.parametrize("how", ["gone", "shorter"])
def test_damage_of_interleaved_files_is_told_by_name(tmp_path, how):
    target = UnitTarget(str(tmp_path), "", 8, "float32")
    files = make_files(target, tmp_path, [[0, 2, 4], [1, 3, 5]])
    path = tmp_path / files[1].path
    if how == "gone":
        path.unlink()
    else:
        pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(GalleryDamagedError, match=path.name):
        index_positions(tmp_path, files)


def test_a_null_feature_is_told_by_name(tmp_path):
    target = UnitTarget(str(tmp_path), "", 8, "float32")
    table = unit_rows(target, [0, 1], ["a", "b"])
    column = pa.array([table["feature"][0].as_py(), None], pa.binary(32))
    nullable = table.drop_columns("feature").append_column("feature", column)
    pq.write_table(nullable, tmp_path / "000000000000-x.parquet")
    files = [RowFile("000000000000-x.parquet", 1, 2, 0, 1)]
    found = GalleryFeatures(
        str(tmp_path), 0, 8, "float32", (files[0].path,), index_positions(tmp_path, files)
    )
    with pytest.raises(GalleryDamagedError, match=r"x\.parquet: the feature column has 1 nulls"):
        found.read(0, 2)


def test_it_is_what_the_mathematics_reads(tmp_path):
    rows: FeatureRows = features_of(tmp_path, [[0, 1]])
    assert rows.dimension == 8


READ_ELSEWHERE = """
import pickle, sys
features = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(features.read(0, len(features)).tobytes())
"""


def test_usable_in_another_process(tmp_path):
    gallery = new_gallery(tmp_path / "g", dtype="float16")
    gallery = gallery.commit([unit(gallery.target, range(30), rejected=[4])], run_id="x")
    found = gallery.features()
    done = subprocess.run(
        [sys.executable, "-c", READ_ELSEWHERE],
        input=pickle.dumps(found),
        capture_output=True,
        check=True,
    )
    assert done.stdout == found.read(0, 29).tobytes()


@pytest.mark.parametrize("groups", ["plain", "interleaved"])
def test_memory_is_bounded_by_a_chunk(tmp_path, groups):
    row_ids = [list(range(start, start + 500)) for start in range(0, 4000, 500)]
    if groups == "interleaved":
        row_ids = [list(range(start, 4000, 8)) for start in range(8)]
    found = features_of(tmp_path, row_ids, dimension=256)
    out = np.empty((4000, 256), dtype=np.float32)
    tracemalloc.start()
    try:
        found.read(0, 4000, out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert out.tobytes() == unit_vectors(range(4000), 256).tobytes()
    assert peak < out.nbytes * 0.75


def test_the_schema_is_that_of_the_files(tmp_path):
    found = features_of(tmp_path, [[0, 1]], "float16")
    assert pq.read_schema(tmp_path / found.paths[0]).equals(row_schema(8, "float16"))
