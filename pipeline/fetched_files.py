"""Files under URLs of object stores, such as networks: one copy of each on every machine.

The copies are in folders below `$XDG_CACHE_HOME/regallery` (`~/.cache/regallery`), each named by a
hash of its contents: the same bytes are fetched once, whatever their URL. The cache may be deleted
at any time; the next run then fetches the files again.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore

from pipeline.errors import InputError, RunError
from pipeline.input_files import why
from pipeline.object_client import StoreError, ask_again, client_of, split_url, tag_of
from pipeline.output_files import name_write_errors, replace_file

_LONGEST_TEXT = 64 << 20

Others = Callable[[Path], Iterable[str]]
"""The names of the files that a file needs beside it."""


@dataclass(frozen=True)
class FetchedFile:
    """The files under a URL when a run began: names and SHA-256 of a file and of those beside it.

    It travels to workers, which get the same bytes or an error.
    """

    url: str
    files: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The name of its folder in the cache: 64 hex digits over names and contents."""
        lines = "".join(f"{digest} {name}\n" for name, digest in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()

    def here(self) -> Path:
        """The copy on this machine, fetched if there is none.

        Raise `InputError` if the URL now has other bytes, and the errors of `fetch`.
        """
        with _locked(self.name) as cache:
            folder = cache / self.name
            if not self.is_whole(folder):
                with _new_folder(cache) as new:
                    for name, digest in self.files:
                        if _download(_beside(self.url, name), new / name) != digest:
                            raise InputError(
                                f"{_beside(self.url, name)}: the object is not the one with which"
                                f" the run began (SHA-256 {digest}): it was overwritten; run the"
                                " command again"
                            )
                    _put_in_place(new, folder)
            return folder / self.files[0][0]

    def is_whole(self, folder: Path) -> bool:
        """Whether a folder holds these files, to the byte."""
        try:
            return all(_digest(folder / name) == digest for name, digest in self.files)
        except OSError:
            return False


def fetch(url: str, others: Others = lambda _: ()) -> FetchedFile:
    """Fetch the object under a URL to this machine, with the `others` beside it.

    If the store says that the objects have not changed, an earlier copy is used. Raise `InputError`
    if the object does not exist, if access is denied or there are no credentials, and if the copy
    cannot be written.
    """
    split_url(url, "a file")
    url = url.rstrip("/")
    with _locked(hashlib.sha256(url.encode()).hexdigest()) as cache:
        remembered = cache / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
        known = _known(remembered, url)
        if known is not None and known.is_whole(cache / known.name):
            return known
        with _new_folder(cache) as new:
            main = url.rpartition("/")[2]
            tags = [_tag(url)]
            digests = [(main, _download(url, new / main))]
            for name in _named(others, new / main, url):
                tags.append(_tag(_beside(url, name)))
                digests.append((name, _download(_beside(url, name), new / name)))
            fetched = FetchedFile(url, tuple(digests))
            if not fetched.is_whole(cache / fetched.name):
                _put_in_place(new, cache / fetched.name)
        _remember(remembered, fetched, tags)
        return fetched


def fetched_text(url: str) -> str:
    """Fetch the text under a URL, in UTF-8, without storing a copy.

    Raise `InputError` if there is none, and for more than 64 MiB.
    """
    bucket, key = split_url(url, "a file")

    def get() -> bytes | None:
        found = obstore.get(client_of(bucket), key)
        return bytes(found.bytes()) if found.meta["size"] <= _LONGEST_TEXT else None

    with _as_input_errors(url):
        data = ask_again(url, get)
    if data is None:
        raise InputError(f"{url}: more than {_LONGEST_TEXT:,} bytes are too many")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{url}: this is not text in UTF-8 ({error})") from error


def cache_folder() -> Path:
    """The folder of the copies on this machine.

    >>> cache_folder().name
    'regallery'
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "regallery"


def _named(others: Others, path: Path, url: str) -> list[str]:
    """The other files; errors about the file name its URL."""
    try:
        return list(others(path))
    except InputError as error:
        raise InputError(str(error).replace(str(path), url)) from error


def _beside(url: str, name: str) -> str:
    return f"{url.rpartition('/')[0]}/{name}"


def _download(url: str, path: Path) -> str:
    """Write the bytes of an object to a file; return their SHA-256."""
    bucket, key = split_url(url, "a file")

    def copy() -> str:
        found = obstore.get(client_of(bucket), key)
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as file:
            for part in found.stream():
                file.write(part)
                digest.update(part)
                size += len(part)
        if size != found.meta["size"]:
            raise RunError(
                f"{url}: {size:,} bytes came of {found.meta['size']:,}; run the command again"
            )
        return digest.hexdigest()

    with _as_input_errors(url), name_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return ask_again(url, copy)


def _tag(url: str) -> list[Any]:
    """The properties of an object that change whenever its bytes do."""
    bucket, key = split_url(url, "a file")
    with _as_input_errors(url):
        meta = ask_again(url, lambda: obstore.head(client_of(bucket), key))
    return [meta["size"], *tag_of(meta)]


@contextmanager
def _as_input_errors(url: str) -> Iterator[None]:
    """Turn errors of a store into errors of an argument."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{url}: the object does not exist") from error
    except StoreError as error:
        raise InputError(str(error)) from error


def _known(remembered: Path, url: str) -> FetchedFile | None:
    """An earlier copy of a URL, if the store still has the same objects."""
    try:
        about = json.loads(remembered.read_text())
        known = FetchedFile(url, tuple((name, digest) for name, digest in about["files"]))
        tags = about["tags"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    now = [_tag(_beside(url, name)) for name, _ in known.files]
    # Without a tag, the size is all that is known; that does not say that the bytes are the same.
    return known if now == tags and all(any(each[1:]) for each in now) else None


def _remember(remembered: Path, fetched: FetchedFile, tags: Sequence[Any]) -> None:
    text = json.dumps({"url": fetched.url, "files": fetched.files, "tags": tags})
    replace_file(remembered, lambda file: file.write(text.encode()))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(name: str) -> Iterator[Path]:
    """The cache's folder, locked so that no other process of this machine fetches under this
    name.
    """
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(cache / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InputError(
            f"{cache}: copies of files under URLs cannot be kept there ({why(error)}): set"
            " XDG_CACHE_HOME to a folder that can be written"
        ) from error
    try:
        # Where a file system has no locks, two processes may fetch the same: each puts it whole.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield cache
    finally:
        os.close(descriptor)


@contextmanager
def _new_folder(cache: Path) -> Iterator[Path]:
    """A temporary folder in the cache."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=cache) as folder:
        files = Path(folder) / "files"
        files.mkdir()
        yield files


def _put_in_place(new: Path, folder: Path) -> None:
    """Give a complete folder its final name, in place of a damaged one."""
    if folder.exists():
        shutil.rmtree(folder)
    try:
        new.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another machine with the same folder was first
            raise
