"""CSV files for a spreadsheet: no text in them is a formula."""

import csv

import pytest

from pipeline.gallery.table import Gallery
from tests.jobs.labeled import labeled_gallery, people
from tests.jobs.running import refused, result

NAMES = ("=1+1", "+1", "-1", "@x", "\tx", "\rx", "'=x", "x=1", "", " =x")
SAFE = ("'=1+1", "'+1", "'-1", "'@x", "'\tx", "'\rx", "'=x", "x=1", "", " =x")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A row for each name, which is its path and its camera; the first is junk."""
    features, _, _ = people(10, 10, dimension=8)
    place = tmp_path_factory.mktemp("safe") / "g"
    paths = [name or "p" for name in NAMES]
    labeled_gallery(place, features, [-1, *range(1, 10)], NAMES, path=paths)
    return place


def columns(path, *names):
    with path.open(newline="") as file:
        return [[row[name] for row in csv.DictReader(file)] for name in names if file.seek(0) == 0]


@pytest.mark.parametrize(("flags", "told"), [((), NAMES), (("--safe-csv",), SAFE)])
def test_cells_that_begin_as_formulas(capsys, gallery, tmp_path, flags, told):
    result(capsys, "export", "--gallery", gallery, "--out", tmp_path / "out", *flags)
    linking = ("link", "--gallery", gallery, "--out", tmp_path / "l.csv", "--threshold", 0.9)
    result(capsys, *linking, *flags)
    for file in (tmp_path / "out" / "rows.csv", tmp_path / "l.csv"):
        paths, cameras = columns(file, "path", "camera")
        assert paths == [name or "p" for name in told]
        assert cameras == list(told)
    (identity,) = columns(tmp_path / "out" / "rows.csv", "identity")
    assert identity == ["-1", *map(str, range(1, 10))]


def test_an_exact_export_comes_back_by_import(capsys, gallery, tmp_path):
    result(capsys, "export", "--gallery", gallery, "--out", tmp_path / "out")
    importing = ("import", tmp_path / "out" / "features.npy", "--gallery", tmp_path / "back")
    result(capsys, *importing, "--format", "npy", "--made-by", "itself")
    told = ["path", "identity", "camera"]
    before, after = (Gallery.open(str(each)).rows(told) for each in (gallery, tmp_path / "back"))
    assert before["path"].to_pylist() == after["path"].to_pylist()
    assert before["identity"].to_pylist() == after["identity"].to_pylist()


def test_where_no_csv_is_written(capsys, gallery, tmp_path):
    line = refused(
        capsys, "export", "--gallery", gallery, "--out", tmp_path / "o", "--format", "parquet",
        "--safe-csv",
    )  # fmt: skip
    assert "--safe-csv is about rows.csv, which --format parquet has not" in line
    linking = ("link", "--gallery", gallery, "--out", tmp_path / "l.parquet", "--safe-csv")
    assert "--safe-csv needs a .csv file" in refused(capsys, *linking)
    assert list(tmp_path.iterdir()) == []
