import errno
import os
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.archive.listing import scanning
from pipeline.archive.listing.files import Place
from pipeline.archive.listing.reading import read_image
from pipeline.archive.listing.source import list_source
from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.errors import InputError, RunError
from pipeline.schemas import REJECT_SCHEMA
from tests.archive.listing.test_tars import save_tar
from tests.archive.pictures import SMOOTH, encode
from tests.archive.sources import fill, paths, rejects


def test_a_folder_is_listed_with_all_its_subfolders_by_path(tmp_path):
    fill(tmp_path, "b/2.jpg", "a/x/3.png", "1.jpeg", "b.jpg", "b-1.jpg", "é.jpg", "Z.JPG")
    listing = list_source(str(tmp_path))
    assert paths(listing) == sorted(
        ["b/2.jpg", "a/x/3.png", "1.jpeg", "b.jpg", "b-1.jpg", "é.jpg", "Z.JPG"]
    )
    assert listing.images.schema == MANIFEST_SCHEMA
    assert listing.rejects.schema == REJECT_SCHEMA
    assert len(listing.rejects) == 0
    assert listing.root == str(tmp_path)


def test_size_and_time_are_those_of_the_file(tmp_path):
    fill(tmp_path, "a.jpg", data=b"12345")
    os.utime(tmp_path / "a.jpg", ns=(0, 1_769_854_530_123_456_789))
    (row,) = list_source(str(tmp_path)).images.to_pylist()
    assert row["size"] == 5
    assert row["mtime"] == datetime(2026, 1, 31, 10, 15, 30, 123_456, tzinfo=UTC)


def test_labels_come_from_the_layout(tmp_path):
    fill(tmp_path, "q/0002_c12s1_000451_03.jpg", "q/-1_c1s1_000001_00.jpg")
    listing = list_source(str(tmp_path), "market1501")
    columns = listing.images.select(["identity", "camera", "captured_at", "frame"]).to_pylist()
    assert [tuple(row.values()) for row in columns] == [(-1, "1", None, 1), (2, "12", None, 451)]


def test_one_base_name_in_two_camera_folders_is_two_rows(tmp_path):
    fill(tmp_path, "c1/0001.jpg", "c2/0001.jpg")
    listing = list_source(str(tmp_path), "{camera}/{identity}.jpg")
    assert paths(listing) == ["c1/0001.jpg", "c2/0001.jpg"]
    assert listing.images["camera"].to_pylist() == ["1", "2"]


def test_what_is_no_image_is_counted_by_suffix(tmp_path):
    fill(tmp_path, "a.jpg", "b.TXT", "c/d.txt", "Thumbs.db", "README", ".hidden.jpg", ".git/x.jpg")
    fill(tmp_path, "f.jpg.bak")
    listing = list_source(str(tmp_path))
    assert paths(listing) == ["a.jpg"]
    assert listing.skipped == {
        "(hidden)": 2,
        "(no suffix)": 1,
        ".bak": 1,
        ".db": 1,
        ".txt": 2,
    }


def test_a_file_without_bytes_is_a_reject(tmp_path):
    fill(tmp_path, "a.jpg")
    fill(tmp_path, "b.jpg", data=b"")
    listing = list_source(str(tmp_path))
    assert rejects(listing) == {"b.jpg": "empty"}
    assert listing.rejects["size"].to_pylist() == [0]
    assert listing.rejects["mtime"].null_count == 0


def test_a_name_that_does_not_fit_is_a_reject_that_says_what_was_expected(tmp_path):
    fill(tmp_path, "0002_c1s1_000451_03.jpg", "photo.jpg", "20261399_c1.jpg")
    listing = list_source(str(tmp_path), "market1501")
    assert rejects(listing) == {"photo.jpg": "no-layout", "20261399_c1.jpg": "no-layout"}
    assert all("0002_c1s1_000451_03.jpg" in text for text in listing.rejects["detail"].to_pylist())


def test_where_no_name_fits_the_layouts_that_would_are_hinted(tmp_path):
    fill(tmp_path, "0002_c1s1_000451_03.jpg", "0003_c1s1_000451_03.jpg")
    with pytest.raises(InputError) as caught:
        list_source(str(tmp_path), "dukemtmc")
    for part in ("not one of 2 images", "0005_c2_f0046985.jpg", "0002_c1s1", "`layout` market1501"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_where_no_layout_fits_a_template_is_hinted(tmp_path):
    fill(tmp_path, "photo.jpg")
    with pytest.raises(InputError, match="no named layout fits them: write a template"):
        list_source(str(tmp_path), "market1501")


def test_half_of_msmt17_is_listed_but_not_both(tmp_path):
    fill(
        tmp_path, *(f"{half}/0000/0000_000_01_0303morning_0015_0.jpg" for half in ("train", "test"))
    )
    assert list_source(str(tmp_path / "train"), "msmt17").images["identity"].to_pylist() == [1]
    with pytest.raises(InputError, match="one number means two people"):
        list_source(str(tmp_path), "msmt17")


def test_links_to_files_and_folders_are_followed(tmp_path):
    fill(tmp_path / "far", "c1/1.jpg", "2.jpg")
    fill(tmp_path / "here", "3.jpg")
    (tmp_path / "here" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "here" / "4.jpg").symlink_to(tmp_path / "far" / "2.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "here")
    assert paths(list_source(str(tmp_path / "link"))) == [
        "3.jpg",
        "4.jpg",
        "far/2.jpg",
        "far/c1/1.jpg",
    ]


def test_links_in_a_circle_end(tmp_path):
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "a").symlink_to(tmp_path / "a")
    listing = list_source(str(tmp_path))
    assert paths(listing) == ["a/1.jpg", "a/b/2.jpg", "b/2.jpg", "b/a/1.jpg"]
    assert listing.skipped["(link loop)"] == 6


def test_a_link_that_leads_nowhere_is_a_reject(tmp_path):
    fill(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "c.jpg").symlink_to(tmp_path / "c.jpg")
    listing = list_source(str(tmp_path))
    assert rejects(listing) == {"b.jpg": "missing", "c.jpg": "missing"}
    assert listing.rejects["detail"].to_pylist()[1] == "a link leads to itself"


def test_a_link_to_a_folder_that_is_not_mounted_is_told_as_one(tmp_path):
    """Nobody knows of the images below it, so none of them is missing."""
    fill(tmp_path / "source", "a.jpg")
    (tmp_path / "source" / "camera3").symlink_to(tmp_path / "not mounted" / "camera3")
    (tmp_path / "source" / "notes.txt").symlink_to(tmp_path / "nowhere")
    listing = list_source(str(tmp_path / "source"))
    assert rejects(listing) == {"camera3/": "unreadable-folder"}
    assert "leads nowhere" in listing.rejects["detail"][0].as_py()
    assert listing.skipped == {".txt": 1}


def test_a_folder_of_which_the_file_system_tells_nothing_is_told(tmp_path):
    """As behind a link to a network's file system whose server is gone."""

    class Stale:
        name = "2026.01"

        def is_symlink(self):
            return True

        def stat(self):
            raise OSError(errno.ESTALE, "stale file handle")

    assert scanning._why_unseen(Stale(), ".01") == "it cannot be reached: stale file handle"
    assert scanning._why_unseen(Stale(), "(hidden)") is None
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    fill(tmp_path, "a.jpg")
    assert list_source(str(tmp_path)).skipped == {"(no suffix)": 1}


def test_a_special_file_is_skipped_and_never_opened(tmp_path):
    fill(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert list_source(str(tmp_path)).skipped == {"(special)": 1}


def test_a_folder_with_an_images_name_is_a_folder(tmp_path):
    fill(tmp_path, "x.jpg/1.jpg")
    assert paths(list_source(str(tmp_path))) == ["x.jpg/1.jpg"]


def test_a_name_that_is_no_utf8_is_a_reject_that_can_be_stored(tmp_path):
    fill(tmp_path, "a.jpg")
    for name in (b"caf\xe9.jpg", b"dir\xff/1.jpg"):
        place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"x")
    listing = list_source(str(tmp_path))
    assert rejects(listing) == {"caf\\xe9.jpg": "bad-name", "dir\\xff/1.jpg": "bad-name"}
    assert listing.rejects["size"].to_pylist() == [1, 1]


def test_names_with_marks_are_kept_and_read_back(tmp_path):
    names = ["a#1.jpg", "b c.jpg", "d[1]*.jpg", "e%20.jpg", "f\n.jpg", "g?h.jpg", "i::j.jpg"]
    fill(tmp_path, *names)
    listing = list_source(str(tmp_path))
    assert paths(listing) == sorted(names)
    assert all(read_image(listing.root, path) == b"x" for path in paths(listing))


def refuse(monkeypatch, folder, error):
    scandir = os.scandir
    monkeypatch.setattr(
        scanning.os,
        "scandir",
        lambda place: (
            (_ for _ in ()).throw(error) if place.rstrip("/") == folder else scandir(place)
        ),
    )


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    refuse(monkeypatch, f"{tmp_path}/b", PermissionError(13, "Permission denied"))
    listing = list_source(str(tmp_path))
    assert paths(listing) == ["a/1.jpg"]
    assert rejects(listing) == {"b/": "unreadable-folder"}
    assert listing.rejects["detail"][0].as_py() == "the folder cannot be listed: Permission denied"


def test_a_source_that_cannot_be_listed_is_an_input_error(tmp_path, monkeypatch):
    fill(tmp_path, "a/1.jpg")
    refuse(monkeypatch, str(tmp_path), PermissionError(13, "Permission denied"))
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        list_source(str(tmp_path))


def test_a_lost_connection_is_no_reject(tmp_path, monkeypatch):
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    refuse(monkeypatch, f"{tmp_path}/b", ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        list_source(str(tmp_path))


def test_a_source_that_is_not_there_or_is_none(tmp_path):
    fill(tmp_path, "a.jpg", "a.tar.gz", "notes.txt")
    with pytest.raises(InputError, match=f"there is no folder or manifest {tmp_path}/gone"):
        list_source(f"{tmp_path}/gone")
    with pytest.raises(InputError, match=r"a\.jpg is a file; a source is a folder of"):
        list_source(f"{tmp_path}/a.jpg")
    with pytest.raises(InputError, match=r"a\.tar\.gz: members of a compressed tar"):
        list_source(f"{tmp_path}/a.tar.gz")


def test_a_socket_is_no_source(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(InputError, match="there is no folder or manifest"):
            list_source(str(tmp_path / "s"))


def test_a_folder_without_an_image_says_what_is_there(tmp_path):
    with pytest.raises(InputError, match=f"no image in {tmp_path}$"):
        list_source(str(tmp_path))
    fill(tmp_path, "a.txt", "b.txt", ".c")
    with pytest.raises(InputError, match=r"no image in .*; skipped there: 2 \.txt, 1 \(hidden\)"):
        list_source(str(tmp_path))


def test_relative_and_file_urls_name_the_same_source(tmp_path, monkeypatch):
    fill(tmp_path, "crops/a.jpg")
    monkeypatch.chdir(tmp_path)
    for source in ("crops", "crops/", "./crops", f"file://{tmp_path}/crops"):
        listing = list_source(source)
        assert (listing.root, paths(listing)) == (f"{tmp_path}/crops", ["a.jpg"])


def test_a_wrong_layout_is_told_before_anything_is_listed(tmp_path):
    with pytest.raises(InputError, match="no layout is called"):
        list_source(str(tmp_path), "market")


entries = st.dictionaries(
    st.tuples(
        st.sampled_from(["", "a/", "b/c/", "2024_c1/"]),
        st.sampled_from(["0001_c1s1_000001_01", "-1_c1s1_000001_01", "photo", "#", ".hidden"]),
        st.sampled_from([".jpg", ".PNG", ".txt", ""]),
    ),
    st.sampled_from([b"", b"x", "link", "dead link"]),
    min_size=1,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(entries)
def test_images_in_are_rows_and_rejects(tmp_path, files):
    root = tmp_path / "source"
    shutil.rmtree(root, ignore_errors=True)
    fill(root, "0002_c1s1_000001_01.jpg")
    (tmp_path / "target").write_bytes(b"x")
    images = {"0002_c1s1_000001_01.jpg"}
    for (folder, stem, suffix), content in files.items():
        path = root / (folder + stem + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.symlink_to(tmp_path / ("target" if content == "link" else "nowhere"))
        if suffix in (".jpg", ".PNG") and not stem.startswith("."):
            images.add(folder + stem + suffix)
        elif content == "dead link" and suffix == "" and not stem.startswith("."):
            images.add(folder + stem + "/")  # it may have led to a folder
    listing = list_source(str(root), "market1501")
    assert sorted(paths(listing) + listing.rejects["path"].to_pylist()) == sorted(images)
    assert sum(listing.skipped.values()) == len(files) + 1 - len(images)
    assert paths(listing) == sorted(paths(listing))


def test_the_order_of_the_folder_and_the_threads_change_nothing(tmp_path, monkeypatch):
    fill(tmp_path, *(f"{folder}/{number}.jpg" for folder in range(20) for number in range(5)))
    many = list_source(str(tmp_path))
    monkeypatch.setattr(scanning, "THREADS", 1)
    assert list_source(str(tmp_path)).images.equals(many.images)


def test_a_large_folder_is_listed_by_several_processes(tmp_path, monkeypatch):
    names = [f"c{camera}/{day}/{number}_c{camera}_{number}.png" for camera in range(5)
             for day in range(3) for number in range(4)]  # fmt: skip
    fill(tmp_path, *names, "c1/notes.txt", "c2/odd.jpg")
    fill(tmp_path, "c3/0/empty.jpg", data=b"")
    save_tar(tmp_path / "c4" / "a.tar", [("7_c4_7.png", b"x")])
    alone = list_source(str(tmp_path), "cuhk03-np")
    for limit in ("_ALONE", "_ANSWER", "_PLACES"):
        monkeypatch.setattr(f"pipeline.archive.listing.source.{limit}", 1)
    monkeypatch.setattr("pipeline.archive.listing.scanning._AHEAD", 1)
    several = list_source(str(tmp_path), "cuhk03-np")
    assert len(several.images) == len(names) + 1
    assert several.images.equals(alone.images)
    assert several.rejects.equals(alone.rejects)
    assert several.skipped == alone.skipped == {".txt": 1}


def die(*_):
    os._exit(9)


def test_a_process_that_is_killed_while_listing_is_told(tmp_path, monkeypatch):
    fill(tmp_path, *(f"{number}/1.jpg" for number in range(9)))
    monkeypatch.setattr("pipeline.archive.listing.source._ALONE", 0)
    monkeypatch.setattr("pipeline.archive.listing.source._list_elsewhere", die)
    with pytest.raises(RunError, match="a process that lists it was killed"):
        list_source(str(tmp_path))


def test_what_is_left_of_a_listing_waits(tmp_path, monkeypatch):
    fill(tmp_path, *(f"{folder}/{number}.jpg" for folder in range(9) for number in range(3)))
    monkeypatch.setattr(scanning, "_AHEAD", 1)
    waiting = [Place("")]
    assert sum(len(folder.files) for folder in scanning.walk(str(tmp_path), waiting, 5)) == 6
    assert len(waiting) == 7
    assert sum(len(folder.files) for folder in scanning.walk(str(tmp_path), waiting)) == 21


def test_more_rows_than_one_chunk_are_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.archive.listing.source._CHUNK", 3)
    monkeypatch.setattr("pipeline.archive.listing.source._LOOK_UP", 4)
    fill(tmp_path, *(f"{number}.jpg" for number in range(10)))
    listing = list_source(str(tmp_path))
    assert paths(listing) == [f"{number}.jpg" for number in range(10)]
    pq.write_table(listing.images, tmp_path / "m.parquet")
    assert list_source(str(tmp_path / "m.parquet")).images.equals(listing.images)


def test_the_crops_of_the_sample_are_all_listed(pedestrians):
    listing = list_source(str(pedestrians), "market1501")
    assert (len(listing.images), len(listing.rejects), listing.skipped) == (686, 0, {})
    assert set(listing.images["camera"].to_pylist()) == {"1", "2", "3"}
    assert pa.compute.count_distinct(listing.images["identity"]).as_py() == 11


def test_first_bytes_and_not_the_suffix_say_what_is_an_image(tmp_path):
    picture = encode(SMOOTH, "PNG")
    fill(tmp_path, "scan", "scan.0001", "scan.dat", "notes.txt", data=picture)
    fill(tmp_path, "video.0001", data=b"\0\0\0\x18ftypisom\0\0\0\0isommp41")
    listing = list_source(str(tmp_path))
    assert paths(listing) == ["scan", "scan.0001", "scan.dat"]
    assert listing.skipped == {".0001": 1, ".txt": 1}


def test_first_bytes_say_so_in_tars_and_elsewhere(tmp_path):
    fill(tmp_path, "scan", data=encode(SMOOTH, "PNG"))
    fill(tmp_path, "readme", data=b"hello")
    members = [("scan", encode(SMOOTH, "PNG")), ("readme", b"hi"), ("b.jpg", b"x")]
    save_tar(tmp_path / "a.tar", members)
    listing = list_source(str(tmp_path))
    assert paths(listing) == ["a.tar#b.jpg", "a.tar#scan", "scan"]
    assert read_image(listing.root, "a.tar#scan") == encode(SMOOTH, "PNG")
    memory = fsspec.filesystem("memory")
    memory.pipe("/looked/scan", encode(SMOOTH, "PNG"))
    memory.pipe("/looked/readme", b"hello")
    memory.pipe("/looked/empty", b"")
    listing = list_source("memory://looked")
    assert (paths(listing), listing.skipped) == (["scan"], {"(no suffix)": 2})


def test_newer_formats_are_images_and_what_is_not_read_is_a_reject(tmp_path):
    fill(tmp_path, "a.HEIC", "b.avif", "c.mpo", "d.jp2", "e.jxl", "f.TGA", "g.dng", "h.txt")
    listing = list_source(str(tmp_path))
    assert paths(listing) == ["a.HEIC", "b.avif", "c.mpo", "d.jp2", "e.jxl"]
    assert rejects(listing) == {"f.TGA": "unsupported", "g.dng": "unsupported"}
    assert (
        listing.rejects["detail"][0].as_py() == ".tga files are not read: convert it to JPEG or PNG"
    )
