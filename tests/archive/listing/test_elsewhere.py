"""Listing what lies in buckets, and what manifests name."""

from datetime import UTC, datetime

import fsspec
import pyarrow.parquet as pq
import pytest

from pipeline.archive.listing import scanning
from pipeline.archive.listing.reading import read_image
from pipeline.archive.listing.source import list_source
from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.errors import InputError
from tests.archive.sources import fill, paths, rejects


@pytest.fixture
def memory():
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield filesystem
    filesystem.store.clear()


def test_a_remote_folder_is_listed_like_a_local_one(tmp_path, memory):
    names = ["a.jpg", "c1/b#1.png", "c1/x/d.jpg", "c1/e.txt", ".h/f.jpg", "c2/0.jpg"]
    fill(tmp_path, *names)
    fill(tmp_path, "c2/empty.jpg", data=b"")
    for name in names:
        memory.pipe(f"/src/{name}", b"x")
    memory.pipe("/src/c2/empty.jpg", b"")
    here, there = list_source(str(tmp_path)), list_source("memory://src/")
    assert paths(here) == paths(there)
    assert rejects(here) == rejects(there) == {"c2/empty.jpg": "empty"}
    assert here.skipped == there.skipped
    assert there.root == "memory://src"
    assert there.images["size"].to_pylist() == [1] * 4
    age = datetime.now(UTC) - there.images["mtime"][0].as_py()
    assert 0 <= age.total_seconds() < 60
    assert all(read_image(there.root, path) == b"x" for path in paths(there))


def test_the_root_of_a_file_system_is_a_source(memory):
    memory.pipe("/a.jpg", b"x")
    memory.pipe("/c1/b.jpg", b"x")
    listing = list_source("memory://")
    assert paths(listing) == ["a.jpg", "c1/b.jpg"]
    assert all(read_image(listing.root, path) == b"x" for path in paths(listing))


def test_a_remote_source_that_is_not_there(memory):
    with pytest.raises(InputError, match="there is no folder or manifest memory://gone"):
        list_source("memory://gone")


def test_a_folder_that_grew_is_listed_anew(memory):
    memory.pipe("/src/a.jpg", b"x")
    assert len(list_source("memory://src").images) == 1
    memory.pipe("/src/b.jpg", b"x")
    assert len(list_source("memory://src").images) == 2


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"LastModified": datetime(2026, 1, 31, tzinfo=UTC)}, 1_769_817_600_000_000),
        ({"last_modified": datetime(2026, 1, 31)}, 1_769_817_600_000_000),
        ({"updated": "2026-01-31T00:00:00.5Z"}, 1_769_817_600_500_000),
        ({"mtime": 1769817600.25}, 1_769_817_600_250_000),
        ({}, None),
    ],
)
def test_the_times_that_file_systems_tell_are_understood(entry, expected):
    assert scanning._modified(entry) == expected


def test_a_manifest_is_listed_with_its_labels(tmp_path):
    fill(tmp_path, "crops/a.jpg", "crops/b.jpg", data=b"123")
    (tmp_path / "m.csv").write_text("path,identity,camera\ncrops/b.jpg,2,north\ncrops/a.jpg,1,\n")
    listing = list_source(str(tmp_path / "m.csv"))
    assert listing.root == str(tmp_path)
    assert listing.images.schema == MANIFEST_SCHEMA
    rows = listing.images.select(["path", "size", "identity", "camera"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("crops/a.jpg", 3, 1, None),
        ("crops/b.jpg", 3, 2, "north"),
    ]
    assert listing.images["mtime"].null_count == 0


def test_a_listing_is_a_manifest(tmp_path):
    fill(tmp_path, "c1/0002_c1s1_000451_03.jpg", "c1/0003_c1s1_000451_03.jpg")
    listing = list_source(str(tmp_path), "market1501")
    pq.write_table(listing.images, tmp_path / "m.parquet")
    again = list_source(str(tmp_path / "m.parquet"))
    assert again.images.equals(listing.images)


def test_files_that_a_manifest_names_and_are_not_there_are_rejects(tmp_path):
    fill(tmp_path, "a.jpg", "dir/x.jpg")
    fill(tmp_path, "e.jpg", data=b"")
    (tmp_path / "m.csv").write_text("path\na.jpg\ngone.jpg\nnone/gone.jpg\ndir\ne.jpg\n")
    listing = list_source(str(tmp_path / "m.csv"))
    assert paths(listing) == ["a.jpg"]
    assert rejects(listing) == {
        "gone.jpg": "missing",
        "none/gone.jpg": "missing",
        "dir": "unreadable",
        "e.jpg": "empty",
    }


def test_a_manifest_of_which_nothing_is_there_says_where_it_looked(tmp_path):
    (tmp_path / "m.csv").write_text("path\na.jpg\nb.jpg\n")
    with pytest.raises(InputError, match=f"not one of 2 files exists below {tmp_path}"):
        list_source(str(tmp_path / "m.csv"))


def test_absolute_paths_and_urls_stand_in_one_manifest(tmp_path, memory):
    fill(tmp_path, "here/a.jpg", "there/b.jpg")
    memory.pipe("/far/c.jpg", b"123")
    (tmp_path / "here" / "m.csv").write_text(
        f"path\na.jpg\n../there/b.jpg\n{tmp_path}/here/a.jpg\nmemory://far/c.jpg\nmemory://far/d.jpg\n"
    )
    listing = list_source(str(tmp_path / "here" / "m.csv"))
    assert paths(listing) == sorted(
        ["a.jpg", "../there/b.jpg", f"{tmp_path}/here/a.jpg", "memory://far/c.jpg"]
    )
    assert rejects(listing) == {"memory://far/d.jpg": "missing"}
    assert all(read_image(listing.root, path) for path in paths(listing))


@pytest.mark.parametrize("count", [3, 40])
def test_a_manifest_in_a_bucket_is_listed_from_few_questions(memory, count):
    names = [f"crops/{number:03d}.jpg" for number in range(count)]
    for name in names[1:]:
        memory.pipe(f"/src/{name}", b"12")
    memory.pipe("/src/crops/sub.jpg/x.jpg", b"1")
    memory.pipe("/src/m.csv", "\n".join(["path", "crops/sub.jpg", *names]).encode())
    listing = list_source("memory://src/m.csv")
    assert paths(listing) == names[1:]
    assert set(listing.images["size"].to_pylist()) == {2}
    assert listing.root == "memory://src"
    assert set(rejects(listing)) == {names[0], "crops/sub.jpg"}


def test_a_layout_fills_the_columns_that_a_manifest_lacks(tmp_path):
    fill(tmp_path, "0002_c1s1_000451_03.jpg", "odd.jpg")
    (tmp_path / "m.csv").write_text("path,camera\n0002_c1s1_000451_03.jpg,north\nodd.jpg,south\n")
    listing = list_source(str(tmp_path / "m.csv"), "market1501")
    row = listing.images.to_pylist()[0]
    assert (row["identity"], row["camera"], row["frame"]) == (2, "north", 451)
    assert rejects(listing) == {"odd.jpg": "no-layout"}


def test_a_wrong_manifest_is_an_input_error(tmp_path):
    (tmp_path / "m.csv").write_text("file\na.jpg\n")
    with pytest.raises(InputError, match="has no column path"):
        list_source(str(tmp_path / "m.csv"))
