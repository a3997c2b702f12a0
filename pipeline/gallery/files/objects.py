"""Places in an object store: S3, Google Cloud Storage, Azure.

`ObjectPlace` has the operations of `pathlib.Path` that a gallery needs, under the same names. A
disk uses links and renames; a store uses conditional requests instead: `put_new` writes an object
only if there is none, `put_if_unchanged` only over the version that was read. A request whose
answer was lost is sent again; it then recognizes its own write by the bytes in the store.
"""

import errno
import fnmatch
import functools
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any

import obstore
from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

from pipeline.object_client import (
    StoreError,
    Tag,
    ask_again,
    client_of,
    split_url,
    tag_of,
)

Data = bytes | memoryview | Path

MARKER = ".folder"
"""The name of the empty object that makes a folder visible while it is empty."""

_PAGE = 1000
_ALL = 1 << 30


@dataclass(frozen=True)
class ObjectStat:
    """A store's description of an object, like `os.stat_result` for a file."""

    st_size: int
    tag: Tag
    st_mode: int = stat.S_IFREG


_FOLDER = ObjectStat(0, Tag(None, None), stat.S_IFDIR)


@dataclass(frozen=True, order=True)
class ObjectPlace:
    """An object, or a folder of objects: those whose names begin with its own and a slash.

    `bucket` is a URL such as `s3://bucket`, `key` the name in it. `listed` is the description from
    a listing; with it, `is_file`, `is_dir` and `known_size` need no request.
    """

    bucket: str
    key: str
    listed: ObjectStat | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    def __truediv__(self, name: str | PurePath) -> "ObjectPlace":
        below = str(name)
        if below in ("", "."):
            return self
        return ObjectPlace(self.bucket, f"{self.key}/{below}" if self.key else below)

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(self.key)

    @property
    def name(self) -> str:
        """The last part of the name."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part of the name without its suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """The end of the name, from its last dot."""
        return self._pure.suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The URL of the bucket, then the parts of the name."""
        return self.bucket, *self.key.split("/")

    @property
    def parent(self) -> "ObjectPlace":
        """The folder that holds it."""
        return ObjectPlace(self.bucket, self.key.rpartition("/")[0])

    @property
    def parents(self) -> Sequence["ObjectPlace"]:
        """The folders that hold it, the nearest first."""
        return [self._with(each) for each in self._pure.parents]

    def with_name(self, name: str) -> "ObjectPlace":
        """A place beside it, under another name."""
        return self._with(self._pure.with_name(name))

    def with_suffix(self, suffix: str) -> "ObjectPlace":
        """A place beside it, with another suffix."""
        return self._with(self._pure.with_suffix(suffix))

    def relative_to(self, folder: "ObjectPlace") -> PurePosixPath:
        """The part of the name below a folder."""
        return self._pure.relative_to(folder._pure)

    def resolve(self) -> "ObjectPlace":
        """Itself: stores have no links."""
        return self

    def as_posix(self) -> str:
        """The URL."""
        return str(self)

    def _with(self, key: PurePosixPath) -> "ObjectPlace":
        return ObjectPlace(self.bucket, "" if str(key) == "." else key.as_posix())

    # What is there

    def exists(self) -> bool:
        """Whether there is an object of this name, or one below it."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is an object of this name."""
        if self.listed is not None:
            return stat.S_ISREG(self.listed.st_mode)
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether there is an object below it."""
        if self.listed is not None:
            return stat.S_ISDIR(self.listed.st_mode)
        return any(True for _ in _listed(self))

    def is_symlink(self) -> bool:
        """False: stores have no links."""
        return False

    def stat(self) -> ObjectStat:
        """The size of an object; raise `FileNotFoundError`."""
        meta = ask_again(self, lambda: obstore.head(client_of(self.bucket), self.key))
        return ObjectStat(meta["size"], tag_of(meta))

    def lstat(self) -> ObjectStat:
        """The description from `stat` or from the listing."""
        return self.listed or self.stat()

    def iterdir(self) -> Iterator["ObjectPlace"]:
        """The objects and folders in a folder."""
        found = ask_again(
            self, lambda: obstore.list_with_delimiter(client_of(self.bucket), self.key or None)
        )
        folders = [ObjectPlace(self.bucket, each.strip("/")) for each in found["common_prefixes"]]
        with ThreadPoolExecutor(max(1, len(folders))) as pool:
            # Some stores list folders whose objects were all deleted.
            for folder, is_there in zip(
                folders, pool.map(ObjectPlace.is_dir, folders), strict=True
            ):
                if is_there:
                    yield ObjectPlace(folder.bucket, folder.key, _FOLDER)
        for each in (_place_of(self.bucket, meta) for meta in found["objects"]):
            if each != self and each.name != MARKER:  # some stores list an empty folder itself
                yield each

    def glob(self, pattern: str) -> Iterator["ObjectPlace"]:
        """The objects and folders in a folder whose names match a shell pattern."""
        for each in self.iterdir():
            if fnmatch.fnmatchcase(each.name, pattern):
                yield each

    def rglob(self, pattern: str) -> Iterator["ObjectPlace"]:
        """Yield the objects below a folder whose last name matches a shell pattern, without
        folders.
        """
        for each in _listed(self):
            if each.name != MARKER and fnmatch.fnmatchcase(each.name, pattern):
                yield each

    def later(self, name: str) -> Iterator["ObjectPlace"]:
        """Yield the objects below a folder whose names come after a name, in order, without
        folders.
        """
        return _listed(self, (self / name).key)

    # Reading

    def read_bytes(self) -> bytes:
        """The bytes of an object; raise `FileNotFoundError`."""
        return bytes(self.fetch()[0])

    def read_text(self) -> str:
        """The text of an object, in UTF-8."""
        return self.read_bytes().decode()

    def fetch(self) -> tuple[memoryview, Tag]:
        """The bytes of an object, and the tag of this version of it."""

        def get() -> tuple[memoryview, Tag]:
            found = obstore.get(client_of(self.bucket), self.key)
            return memoryview(found.bytes()), tag_of(found.meta)

        return ask_again(self, get)

    def fetch_small(self, most: int) -> memoryview | None:
        """Fetch the bytes of an object in one request; None if there are more than `most`, without
        reading them.
        """

        def get() -> memoryview | None:
            found = obstore.get(client_of(self.bucket), self.key)
            return memoryview(found.bytes()) if found.meta["size"] <= most else None

        return ask_again(self, get)

    def fetch_range(self, start: int, length: int) -> memoryview:
        """Fetch `length` bytes of an object from `start`, or as many as it has."""
        if length == 0:
            return memoryview(b"")
        store = client_of(self.bucket)
        read = functools.partial(obstore.get_range, store, self.key, start=start, length=length)
        return memoryview(ask_again(self, read))

    def fetch_end(self, length: int) -> tuple[memoryview, int]:
        """The last bytes of an object, and its size."""
        options: Any = {"range": {"suffix": length}}

        def get() -> tuple[memoryview, int]:
            found = obstore.get(client_of(self.bucket), self.key, options=options)
            return memoryview(found.bytes()), found.meta["size"]

        try:
            return ask_again(self, get)
        except StoreError as error:
            if not isinstance(error.__cause__, NotSupportedError) and self.stat().st_size:
                raise
        size = self.stat().st_size  # Azure counts from the start alone; an empty object has no end
        return self.fetch_range(max(0, size - length), min(length, size)), size

    def download(self, target: IO[bytes]) -> None:
        """Write the bytes of an object to a file."""

        def copy() -> None:
            target.seek(0)
            target.truncate()
            for part in obstore.get(client_of(self.bucket), self.key).stream():
                target.write(part)
            target.flush()

        ask_again(self, copy)

    # Writing

    def write_bytes(self, data: Data) -> None:
        """Write an object, replacing any other; return when the store has it."""
        # One request: a multipart upload that is cut off leaves parts that no listing shows.
        store = client_of(self.bucket)
        ask_again(self, lambda: obstore.put(store, self.key, data, use_multipart=False))

    def put_new(self, data: Data) -> bool:
        """Write an object if there is none; return whether these bytes are there now.

        The result is also True if another writer, or an earlier request of ours, put exactly the
        same bytes.
        """

        store = client_of(self.bucket)

        def put() -> bool:
            while True:
                try:
                    obstore.put(store, self.key, data, mode="create", use_multipart=False)
                except (AlreadyExistsError, PreconditionError):
                    is_same = self._holds(data)
                    if is_same is None:  # it was deleted since
                        continue
                    return is_same
                return True

        return ask_again(self, put)

    def put_if_unchanged(self, data: bytes, tag: Tag | None) -> Tag | None:
        """Write an object over the version with this tag, or a new one for None; return its tag.

        If another writer came first, return None and write nothing.
        """
        mode: Any = "create"
        if tag is not None:
            mode = {name: value for name, value in tag._asdict().items() if value is not None}

        def put() -> Tag | None:
            store = client_of(self.bucket)
            try:
                done = obstore.put(store, self.key, data, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                with suppress(FileNotFoundError):
                    found, now = self.fetch()
                    return now if found == data else None
                return None
            except FileNotFoundError:  # some stores say so for a version of nothing
                return None
            return tag_of(done)

        return ask_again(self, put)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete an object; stores do not say whether there was one."""
        try:
            ask_again(self, lambda: obstore.delete(client_of(self.bucket), self.key))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def copy(self, target: "ObjectPlace") -> None:
        """Copy an object to another name, inside the store."""
        store = client_of(self.bucket)
        ask_again(self, lambda: obstore.copy(store, self.key, target.key))

    def replace(self, target: "ObjectPlace") -> "ObjectPlace":
        """Copy an object to another name, then delete it: a kill between the two leaves both."""
        self.copy(target)
        self.unlink(missing_ok=True)
        return target

    def mark(self) -> None:
        """Make the folder visible even while it is empty."""
        (self / MARKER).write_bytes(b"")

    def rmdir(self) -> None:
        """Delete the mark of a folder; raise `OSError` if there are objects in it."""
        if any(each.name != MARKER for each in _listed(self)):
            raise OSError(errno.ENOTEMPTY, "the folder is not empty", str(self))
        (self / MARKER).unlink(missing_ok=True)

    def _holds(self, data: Data) -> bool | None:
        """Whether the object has these bytes; None if there is none."""
        wanted = data.read_bytes() if isinstance(data, Path) else data
        try:
            return self.stat().st_size == len(wanted) and self.fetch()[0] == wanted
        except FileNotFoundError:
            return None


def place_of_url(url: str) -> ObjectPlace:
    """The place of a gallery's URL; raise the errors of `split_url`.

    >>> place_of_url("s3://bucket/galleries/market/")
    ObjectPlace(bucket='s3://bucket', key='galleries/market')
    """
    return ObjectPlace(*split_url(url, "a gallery"))


def _place_of(bucket: str, meta: Any) -> ObjectPlace:
    return ObjectPlace(bucket, meta["path"], ObjectStat(meta["size"], tag_of(meta)))


def _listed(folder: ObjectPlace, last: str = "") -> Iterator[ObjectPlace]:
    """Yield the objects below a folder, after the one with the name `last`, one page per request.

    An answer that is cut off is requested again.
    """
    store = client_of(folder.bucket)
    # Azure cannot begin a listing in the middle; the client would read all before it again.
    size = _ALL if folder.bucket.startswith("az://") else _PAGE

    def page() -> Sequence[Any]:
        stream = obstore.list(store, folder.key or None, offset=last or None, chunk_size=size)
        return next(stream, ())

    while True:
        part = ask_again(folder, page)
        yield from (each for meta in part if (each := _place_of(folder.bucket, meta)) != folder)
        if len(part) < size:
            return
        last = part[-1]["path"]
