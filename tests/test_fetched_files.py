"""Copies of objects on a machine: fetched once, named by their content, never mixed."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from obstore.exceptions import GenericError

from pipeline import fetched_files, object_client
from pipeline.errors import InputError
from pipeline.fetched_files import FetchedFile, cache_folder, fetch, fetched_text
from pipeline.gallery.files.places import root_of


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache of this machine, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture
def downloads(monkeypatch):
    """The URLs that were read."""
    seen, download = [], fetched_files._download
    monkeypatch.setattr(
        fetched_files, "_download", lambda url, path: (seen.append(url), download(url, path))[1]
    )
    return seen


def put(bucket, name, data):
    (root_of(bucket) / name).write_bytes(data)
    return f"{bucket}/{name}"


def test_an_object_is_fetched_once_and_named_by_its_content(bucket, cache, downloads):
    url, twin = put(bucket, "a/net.onnx", b"weights"), put(bucket, "b/net.onnx", b"weights")
    first = fetch(url)
    assert first.here() == cache / first.name / "net.onnx"
    assert first.here().read_bytes() == b"weights"
    assert fetch(url) == first and downloads == [url]
    assert fetch(twin).name == first.name and fetch(twin).url == twin
    other = fetch(put(bucket, "a/net.onnx", b"changed"))
    assert other.name != first.name and other.here().read_bytes() == b"changed"
    assert first.here().read_bytes() == b"weights"
    assert downloads == [url, twin, url]
    assert sorted(each.name for each in cache.iterdir() if each.is_dir()) == sorted(
        [first.name, other.name]
    )


def test_what_a_file_needs_beside_it_comes_with_it(bucket, cache, downloads):
    url, data = put(bucket, "m/n.xml", b"n.bin"), put(bucket, "m/n.bin", b"one")
    fetched = fetch(url, lambda path: [path.read_text()])
    assert (fetched.here().parent / "n.bin").read_bytes() == b"one"
    assert fetch(url, lambda path: [path.read_text()]) == fetched and downloads == [url, data]
    put(bucket, "m/n.bin", b"two")
    other = fetch(url, lambda path: [path.read_text()])
    assert other.name != fetched.name
    assert (other.here().parent / "n.bin").read_bytes() == b"two"


def test_another_machine_fetches_the_same_bytes_or_none(bucket, cache, downloads, monkeypatch):
    url = put(bucket, "net.onnx", b"weights")
    fetched = fetch(url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent / "other"))
    with ThreadPoolExecutor(4) as actors:
        copies = list(actors.map(lambda _: fetched.here(), range(8)))
    assert len(downloads) == 2 and {each.read_bytes() for each in copies} == {b"weights"}
    assert copies[0].is_relative_to(cache.parent / "other")
    put(bucket, "net.onnx", b"changed")
    assert fetched.here() == copies[0]
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent / "third"))
    with pytest.raises(InputError, match=r"not the one with which the run began.*overwritten"):
        fetched.here()
    assert not any(each.is_dir() for each in cache_folder().iterdir())


def test_a_damaged_copy_is_fetched_again(bucket, cache, downloads):
    fetched = fetch(put(bucket, "net.onnx", b"weights"))
    fetched.here().write_bytes(b"weightz")
    assert fetched.here().read_bytes() == b"weights"
    fetched.here().unlink()
    assert fetch(fetched.url).here().read_bytes() == b"weights"
    (memory,) = cache.glob("*.json")
    for text in ("{", json.dumps({"files": 3, "tags": []})):
        memory.write_text(text)
        assert fetch(fetched.url) == fetched
    assert len(downloads) == 5


def test_an_answer_that_is_cut_short_is_an_error(bucket, cache, monkeypatch):
    url, real = put(bucket, "net.onnx", b"weights"), fetched_files.obstore.get

    class Short:
        def __init__(self, found):
            self.meta, self.stream = {**found.meta, "size": 9}, found.stream

    monkeypatch.setattr(fetched_files.obstore, "get", lambda *a: Short(real(*a)))
    with pytest.raises(fetched_files.RunError, match="7 bytes came of 9"):
        fetch(url)


def test_what_cannot_be_fetched_is_told_with_its_url(bucket, cache, monkeypatch):
    for read in (fetch, fetched_text):
        with pytest.raises(InputError, match=rf"{bucket}/none: the object does not exist"):
            read(f"{bucket}/none")
        with pytest.raises(InputError, match="a file is given by a local path, or by a URL"):
            read("https://host/net.onnx")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    object_client.client_of.cache_clear()
    try:
        for read in (fetch, fetched_text):
            with pytest.raises(InputError, match="denies access") as error:
                read(f"{bucket}/none")
            assert "hunter2" not in str(error.value)
    finally:
        object_client.client_of.cache_clear()


@pytest.mark.parametrize(
    ("scheme", "service", "variable"),
    [
        ("s3", "http://169.254.169.254/latest/api/token", "AWS_SECRET_ACCESS_KEY"),
        ("gs", "http://metadata.google.internal/computeMetadata", "GOOGLE_SERVICE_ACCOUNT"),
        ("az", "http://169.254.169.254/metadata/identity", "AZURE_STORAGE_ACCOUNT_KEY"),
    ],
)
def test_a_machine_without_credentials_is_told_what_to_set(scheme, service, variable):
    asked = []

    def ask():
        asked.append(service)
        raise GenericError(f"Generic error: Error performing PUT {service} in 3s - timed out")

    with pytest.raises(object_client.StoreError, match=f"no credentials.*{variable}"):
        object_client.ask_again(f"{scheme}://bucket/net.onnx", ask)
    assert len(asked) == 1  # the client was patient already


def test_text_is_read_whole_or_refused(bucket, monkeypatch):
    assert fetched_text(put(bucket, "a.toml", "flip = true # ü".encode())) == "flip = true # ü"
    with pytest.raises(InputError, match="not text in UTF-8"):
        fetched_text(put(bucket, "a.toml", b"\xff"))
    monkeypatch.setattr(fetched_files, "_LONGEST_TEXT", 3)
    with pytest.raises(InputError, match="more than 3 bytes"):
        fetched_text(put(bucket, "a.toml", b"four"))


def test_a_cache_that_cannot_be_written_is_named(bucket, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set XDG_CACHE_HOME to a folder"):
        fetch(f"{bucket}/none")
    with pytest.raises(InputError, match="set XDG_CACHE_HOME to a folder"):
        FetchedFile("s3://bucket/a", (("a", "0" * 64),)).here()
