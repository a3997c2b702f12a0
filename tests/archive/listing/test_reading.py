import tracemalloc

import fsspec
import pytest

from pipeline.archive.faults import ReadError
from pipeline.archive.listing.reading import read_image
from pipeline.archive.locations import join, local_path, locate
from pipeline.errors import InputError


@pytest.fixture
def memory():
    """An empty file system in memory, and no trace of it afterwards."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield filesystem
    filesystem.store.clear()


@pytest.mark.parametrize(
    "name", ["a.jpg", "a#b.jpg", "a b[1]*?.jpg", "c::d.jpg", "é.jpg", "100%41.jpg"]
)
def test_a_file_is_read_under_whatever_name(tmp_path, name):
    (tmp_path / "cam").mkdir()
    (tmp_path / "cam" / name).write_bytes(b"pixels")
    assert read_image(str(tmp_path), f"cam/{name}") == b"pixels"
    assert read_image(f"file://{tmp_path}", f"cam/{name}") == b"pixels"


def test_a_file_of_another_file_system_is_read(memory):
    memory.pipe("/crops/c1/a#1.jpg", b"pixels")
    assert read_image("memory://crops", "c1/a#1.jpg") == b"pixels"
    assert read_image("memory://crops/", "c1/a#1.jpg") == b"pixels"


def test_an_absolute_path_and_a_url_do_not_need_the_root(tmp_path, memory):
    (tmp_path / "a.jpg").write_bytes(b"local")
    memory.pipe("/crops/a.jpg", b"memory")
    assert read_image("memory://elsewhere", f"{tmp_path}/a.jpg") == b"local"
    assert read_image("/elsewhere", "memory://crops/a.jpg") == b"memory"
    assert read_image("/elsewhere", f"file://{tmp_path}/a.jpg") == b"local"


def test_a_file_that_went_is_missing(tmp_path, memory):
    for root in (str(tmp_path), "memory://crops"):
        with pytest.raises(ReadError) as caught:
            read_image(root, "a.jpg")
        assert caught.value.reason == "missing"


def test_a_folder_cannot_be_read(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(ReadError, match="it cannot be read: Is a directory") as caught:
        read_image(str(tmp_path), "a.jpg")
    assert caught.value.reason == "unreadable"


def test_a_file_of_too_many_bytes_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(3 * 2**30)
    tracemalloc.start()
    try:
        with pytest.raises(ReadError, match="3,221,225,472 bytes are more than the 268,435,456"):
            read_image(str(tmp_path), "a.jpg")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_the_largest_file_that_is_allowed_is_read(tmp_path, memory):
    (tmp_path / "a.jpg").write_bytes(b"12345")
    memory.pipe("/crops/a.jpg", b"12345")
    for root in (str(tmp_path), "memory://crops"):
        assert read_image(root, "a.jpg", max_bytes=5) == b"12345"
        with pytest.raises(ReadError, match=r"5 bytes are more than the 4 allowed") as caught:
            read_image(root, "a.jpg", max_bytes=4)
        assert caught.value.reason == "too-large"
    with pytest.raises(ReadError, match="9 bytes are more than the 5"):  # as it was listed
        read_image("memory://crops", "a.jpg", size=9, max_bytes=5)


def test_a_path_through_a_file_cannot_be_read(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(ReadError, match="Not a directory"):
        read_image(str(tmp_path), "a/b.jpg")


def test_an_unknown_file_system_is_an_input_error():
    with pytest.raises(InputError, match="nosuch://bucket: Protocol not known"):
        locate("nosuch://bucket")


def test_a_local_location_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_path("crops") == tmp_path / "crops"
    assert local_path(f"file://{tmp_path}") == tmp_path
    assert local_path("memory://crops") is None
    monkeypatch.setenv("HOME", "/home/anna")
    assert str(local_path("~/crops")) == "/home/anna/crops"


def test_a_relative_location_follows_the_working_folder(tmp_path, monkeypatch):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        assert locate("crops")[1] == str(tmp_path / folder / "crops")


def test_join_keeps_what_stands_alone():
    assert join("/data/", "a.jpg") == "/data/a.jpg"
    assert join("/data", "/b/a.jpg") == "/b/a.jpg"
    assert join("/data", "s3://b/a.jpg") == "s3://b/a.jpg"
