"""Objects: written whole or not at all, and never over what another writer wrote."""

import threading
from pathlib import Path

import obstore
import pyarrow as pa
import pytest
from obstore.exceptions import NotSupportedError

from pipeline import object_client
from pipeline.gallery.files import objects, storage
from pipeline.gallery.files.object_requests import check_store, delete_all
from pipeline.gallery.files.places import (
    StoreError,
    in_order,
    known_size,
    last_bytes,
    local_copy,
    parquet,
    read_each,
    rename,
    root_of,
    sha256_of,
    state_of,
)
from pipeline.gallery.log.conditions import parse
from pipeline.gallery.table import Gallery
from tests.gallery.making import new_gallery, path_of, unit, unit_vectors
from tests.gallery.object_store.faulty import Fault

FAULTS = ["500", "503", "reset", "stall", "lost"]


@pytest.fixture(params=["disk", "s3"])
def root(request, tmp_path):
    """A folder on a disk or in an object store; `storage` promises the same of both."""
    return tmp_path if request.param == "disk" else root_of(request.getfixturevalue("bucket"))


def write(root, name, data):
    storage.make_folder((root / name).parent)
    storage.write_whole(root / name, lambda half: half.write_bytes(data))
    return root / name


def test_a_file_is_written_and_read(root):
    path = write(root, "a/b.bin", b"0123456789")
    assert (path.read_bytes(), known_size(path), last_bytes(path, 3)) == (b"0123456789", 10, b"789")
    assert path.exists() and path.is_file() and not path.is_dir() and path.parent.is_dir()
    assert storage.is_own_file(path) and not storage.is_temporary(path)
    assert list(read_each([path, root / "none"])) == [b"0123456789", None]
    with local_copy(path) as copy:
        assert isinstance(copy, Path) and copy.read_bytes() == b"0123456789"
    before = state_of(path)
    assert (sha256_of(path)[:8], state_of(path)) == ("84d89877", before)
    write(root, "a/b.bin", b"012345678x")
    assert state_of(path) != before


def test_a_file_that_is_not_there(root):
    path = root / "none"
    assert not (path.exists() or path.is_file() or path.is_dir() or storage.is_own_file(path))
    for read in (path.read_bytes, path.stat, lambda: last_bytes(path, 4), lambda: sha256_of(path)):
        with pytest.raises(FileNotFoundError):
            read()
    path.unlink(missing_ok=True)
    storage.delete_files([path])
    storage.unlink_all([path])
    storage.delete_folder(path)


def test_an_empty_file(root):
    path = write(root, "empty", b"")
    assert (path.read_bytes(), last_bytes(path, 4), known_size(path)) == (b"", b"", 0)


def test_the_first_link_wins(root):
    storage.make_folder(root / "u")
    for data in (b"first", b"second"):
        with storage.hidden_file(root / "u", "name") as temporary:
            temporary.write_bytes(data)
            storage.sync_file(temporary)
            assert storage.link_into_place(temporary, root / "final") == (data == b"first")
    assert (root / "final").read_bytes() == b"first"
    assert list((root / "u").iterdir()) == storage.temporaries(root / "u") == []


def test_one_of_many_writers_wins(root):
    won = []
    storage.make_folder(root)

    def link(number):
        with storage.hidden_file(root, "name") as temporary:
            temporary.write_bytes(b"%d" % number)
            if storage.link_into_place(temporary, root / "final"):
                won.append(b"%d" % number)

    threads = [threading.Thread(target=link, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [(root / "final").read_bytes()]


def test_listings(root):
    for name in ("g/2.json", "g/10.json", "g/a#1", "g/f/x", "g/f/deep/y", "other"):
        write(root, name, name.encode())
    folder = root / "g"
    assert [each.name for each in in_order(folder.iterdir())] == ["10.json", "2.json", "a#1", "f"]
    assert [each.is_dir() for each in in_order(folder.iterdir())] == [False, False, False, True]
    assert sorted(each.name for each in folder.glob("*.json")) == ["10.json", "2.json"]
    files = [each for each in folder.rglob("*") if each.is_file()]
    assert [each.name for each in in_order(files)] == ["10.json", "2.json", "a#1", "y", "x"]
    storage.delete_folder(folder / "f")
    assert [each.name for each in in_order(folder.iterdir())] == ["10.json", "2.json", "a#1"]


def test_names_may_be_odd(root):
    for name in ("sp ace", "é", "a+b", "x=1&y", "~", "a,b", "[1]"):
        assert write(root, f"odd/{name}", b"1").read_bytes() == b"1"
        assert name in {each.name for each in (root / "odd").iterdir()}


def test_a_folder_whose_presence_says_something(root):
    folder = root / "_purged"
    assert not folder.exists()
    storage.begin_folder(folder)
    assert folder.exists() and list(folder.iterdir()) == []
    rename(write(root, "x", b"1"), folder / "x")
    assert [each.name for each in folder.iterdir()] == ["x"] and not (root / "x").exists()
    with pytest.raises(OSError):
        folder.rmdir()
    storage.delete_files([folder / "x"])
    folder.rmdir()
    assert not folder.exists()


def test_files_are_deleted_with_their_records(root):
    """Few are looked for one by one, many by a listing."""
    for count in (1, 40):
        paths = [write(root, f"{count}/{number}.parquet", b"1") for number in range(count)]
        for path in paths[::2]:
            record = storage.record_of(path)
            storage.make_folder(record.parent)
            storage.write_whole(record, lambda half: half.write_bytes(b"{}"))
        storage.delete_files([*paths, root / "none.parquet"])
        assert not any(path.exists() for path in paths)
        left = (root / str(count) / storage.CHECKSUMS_FOLDER).rglob("*")
        assert [each for each in left if each.is_file()] == []


def test_an_object_changes_only_over_the_version_that_was_read(bucket):
    place = root_of(bucket) / "record"
    first = place.put_if_unchanged(b"1", None)
    assert first is not None and place.put_if_unchanged(b"2", None) is None
    second = place.put_if_unchanged(b"2", first)
    assert second is not None and place.put_if_unchanged(b"3", first) is None
    assert place.fetch() == (b"2", second)
    place.unlink()
    assert place.put_if_unchanged(b"3", second) is None


def test_parts_of_an_object(bucket):
    place, data = root_of(bucket) / "large", bytes(range(256)) * 1000
    place.write_bytes(data)
    file = parquet(place)
    assert (file.size(), file.readable(), file.seekable()) == (len(data), True, True)
    assert file.seek(-5, 2) == len(data) - 5 and file.read() == data[-5:] and file.read(3) == b""
    assert file.seek(10) == 10 and file.read(5) == data[10:15] and file.tell() == 15
    assert file.seek(5, 1) == 20 and file.read(-1) == data[20:]


def test_the_end_of_an_object_where_a_store_counts_from_the_start_alone(bucket, monkeypatch):
    """As Azure does; its client refuses to ask."""
    place, real = root_of(bucket) / "x", obstore.get

    def refuse(store, key, *, options=None):
        if options is not None:
            raise NotSupportedError("no suffix")
        return real(store, key)

    monkeypatch.setattr(obstore, "get", refuse)
    for data in (b"0123456789", b"01", b""):
        place.write_bytes(data)
        assert place.fetch_end(4) == (data[-4:], len(data))


def test_a_store_is_checked_for_what_a_gallery_needs(bucket, monkeypatch):
    root = root_of(bucket)
    check_store(root)
    assert list(root.iterdir()) == []
    monkeypatch.setattr(type(root), "put_new", lambda *_: True)
    with pytest.raises(StoreError, match="ignores `If-None-Match`"):
        check_store(root)


def test_many_are_listed_page_by_page_and_deleted_at_once(bucket, monkeypatch):
    monkeypatch.setattr(objects, "_PAGE", 10)
    root = root_of(bucket)
    places = [root / str(number) for number in range(30)]
    for place in places:
        place.write_bytes(b"1")
    assert sorted(int(each.name) for each in root.rglob("*")) == list(range(30))
    delete_all([])
    delete_all(places)
    assert list(root.rglob("*")) == []


@pytest.mark.parametrize("kind", FAULTS)
def test_a_write_that_goes_wrong_is_done_once(bucket, proxy, kind):
    """The one whose answer was lost recognizes its own bytes; that of another writer stays."""
    root = root_of(bucket)
    proxy.faults.append(Fault(kind, "PUT", "new"))
    assert (root / "new").put_new(b"ours") and len(proxy.seen) == 1
    assert (root / "new").read_bytes() == b"ours" and not (root / "new").put_new(b"theirs")
    proxy.faults.append(Fault(kind, "PUT", "whole"))
    (root / "whole").write_bytes(b"1")
    tag = (root / "whole").fetch()[1]
    proxy.faults.append(Fault(kind, "PUT", "whole"))
    tag = (root / "whole").put_if_unchanged(b"2", tag)
    assert tag is not None and (root / "whole").fetch() == (b"2", tag) and len(proxy.seen) == 3
    proxy.faults.append(Fault(kind, "DELETE", "whole"))
    proxy.faults.append(Fault(kind, "POST", "delete"))
    (root / "whole").unlink()
    assert not (root / "whole").exists()


@pytest.mark.parametrize("kind", FAULTS)
def test_a_read_that_goes_wrong_is_whole(bucket, proxy, kind):
    root, data = root_of(bucket), bytes(range(256)) * 4000
    (root / "read").write_bytes(data)
    for read in (
        lambda: (root / "read").read_bytes(),
        lambda: bytes((root / "read").fetch_range(0, len(data))),
        lambda: bytes((root / "read").fetch_end(len(data))[0]),
    ):
        proxy.faults.append(Fault(kind, "GET", "read"))
        assert read() == data
    proxy.faults.append(Fault(kind, "GET", "read"))
    with local_copy(root / "read") as copy:
        assert copy.read_bytes() == data
    proxy.faults.append(Fault(kind, "HEAD", "read"))
    assert (root / "read").stat().st_size == len(data)
    proxy.faults.append(Fault(kind, "GET", "list-type"))
    assert [each.name for each in root.rglob("*")] == ["read"]
    assert len(proxy.seen) == 6


def test_a_store_without_an_answer_is_told_as_that(bucket, proxy, monkeypatch):
    """A file that cannot be read now is not damaged: nobody may delete it."""
    monkeypatch.setattr(object_client, "PATIENCE_SECONDS", 0.1)
    proxy.faults.append(Fault("503", "GET", times=1000))
    with pytest.raises(StoreError, match=r"503 Service Unavailable.*SlowDown") as error:
        (root_of(bucket) / "x").read_bytes()
    assert not isinstance(error.value, storage.GalleryDamagedError)


def test_a_refusal_tells_no_secret(only_s3, bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    object_client.client_of.cache_clear()
    try:
        with pytest.raises(StoreError, match="denies access") as error:
            (root_of(bucket) / "x").write_bytes(b"1")
        assert "secret" not in str(error.value) and "test" not in str(error.value)
    finally:
        object_client.client_of.cache_clear()


def test_a_gallery_asks_no_more_than_it_must(bucket, proxy, monkeypatch):
    """Each request to a store far away takes some 50 ms."""
    asked, take = [], proxy.take
    monkeypatch.setattr(proxy, "take", lambda *request: (asked.append(request), take(*request))[1])

    def count(work):
        asked.clear()
        return work(), len(asked)

    empty, made = count(lambda: new_gallery(bucket))
    _, opened = count(lambda: Gallery.open(bucket))
    units, written = count(lambda: [unit(empty.target, range(4))])
    after, committed = count(lambda: empty.commit(units, run_id="x", paths=units_paths(4)))
    assert after.count == 4
    assert made <= 45 and opened <= 13 and written <= 7 and committed <= 81


def test_a_selection_asks_once_for_a_footer(bucket, proxy, monkeypatch):
    """And once for what else it reads of a file: columns are near the footer of a small file."""
    empty = new_gallery(bucket)
    units = [unit(empty.target, range(at, at + 4)) for at in (0, 4, 8)]
    gallery = empty.commit(units, run_id="x", paths=units_paths(12))
    asked, take = [], proxy.take
    monkeypatch.setattr(proxy, "take", lambda *request: (asked.append(request), take(*request))[1])
    found = gallery.select_positions(parse("row_id in (5, 6, 9)"))
    assert found.tolist() == [5, 6, 9] and len(asked) <= 2
    asked.clear()
    taken = gallery.features().take(found)
    assert taken.tobytes() == unit_vectors([5, 6, 9]).tobytes() and len(asked) <= 2


def units_paths(count):
    return pa.chunked_array([[path_of(each) for each in range(count)]])
