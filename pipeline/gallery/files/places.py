"""The place of a gallery's files: a folder on a disk, or a URL in an object store.

A `GalleryPlace` is one or the other, depending on the location. A path on disk already has
everything that a gallery needs; `ObjectPlace` offers the same under the same names. The remaining
differences are handled here (reading) and in `storage` (writing).
"""

import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.errors import InputError
from pipeline.gallery.files.object_file import ObjectFile
from pipeline.gallery.files.object_requests import check_store as check_store
from pipeline.gallery.files.objects import ObjectPlace as ObjectPlace
from pipeline.gallery.files.objects import place_of_url
from pipeline.object_client import Answer
from pipeline.object_client import StoreError as StoreError
from pipeline.object_client import Tag as Tag
from pipeline.object_client import is_url as is_url
from pipeline.object_client import reason_of as reason_of

GalleryPlace = Path | ObjectPlace
AnyPlace = TypeVar("AnyPlace", Path, ObjectPlace, GalleryPlace)
Item = TypeVar("Item")

REQUESTS = 16
"""The number of requests to an object store at the same time."""


def root_of(location: str | os.PathLike[str]) -> GalleryPlace:
    """The absolute folder of a gallery, or the place that its URL names.

    Raise `InputError` for an empty location, and what `place_of_url` raises.
    """
    return place_of_url(os.fspath(location)) if is_url(location) else local_root(location)


def local_root(location: str | os.PathLike[str]) -> Path:
    """An absolute folder on a disk of this machine; raise `InputError` for a URL."""
    text = os.fspath(location)
    if not text:
        raise InputError("the gallery's location is empty: give a folder, or a URL")
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        raise InputError(f"{text}: this must be a local folder, not a URL")
    return Path(text).absolute()


def below(place: GalleryPlace, root: GalleryPlace) -> str:
    """The name of a file as seen from a folder above it."""
    return place.relative_to(root).as_posix()  # type: ignore[arg-type]


def in_order(places: Iterable[GalleryPlace]) -> list[GalleryPlace]:
    """Files sorted by their names, folder by folder."""
    return sorted(places, key=lambda place: place.parts)


def rename(place: GalleryPlace, target: GalleryPlace) -> None:
    """Give a file another name in the same gallery, in place of a file that has it.

    At once on a disk; in an object store it has both names for a moment.
    """
    place.replace(target)  # type: ignore[arg-type]


def ask_many(
    ask: Callable[[Item], Answer], items: Iterable[Item], root: GalleryPlace
) -> Iterator[Answer]:
    """Like `map`, but with many simultaneous requests if the place is in an object store.

    Some answers are fetched ahead of the consumer.
    """
    if isinstance(root, Path):
        yield from map(ask, items)
        return
    ahead: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(REQUESTS) as pool:
        for item in items:
            ahead.append(pool.submit(ask, item))
            if len(ahead) > 2 * REQUESTS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def read_each(places: Sequence[GalleryPlace]) -> Iterator[bytes | None]:
    """The bytes of each file, in their order; None for one that is not there."""
    if places:
        yield from ask_many(_read, places, places[0])


def _read(place: GalleryPlace) -> bytes | None:
    try:
        return place.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return None


def parquet(place: GalleryPlace) -> Any:
    """A file in the form that pyarrow accepts: the path, or an open object, read in parts."""
    return place if isinstance(place, Path) else ObjectFile(place)


def dataset(
    places: Sequence[GalleryPlace], schema: pa.Schema, form: ds.ParquetFileFormat
) -> ds.Dataset:
    """Several Parquet files as one table of these columns."""
    if not places or isinstance(places[0], Path):
        return ds.dataset([str(each) for each in places], schema=schema, format=form)
    opened = ask_many(parquet, places, places[0])
    fragments = [form.make_fragment(pa.PythonFile(each, mode="r")) for each in opened]
    return ds.FileSystemDataset(fragments, schema, form)


def state_of(place: GalleryPlace) -> tuple[Any, ...]:
    """The properties that change whenever the bytes of a file do; raise `FileNotFoundError`."""
    if isinstance(place, Path):
        about = place.stat()
        return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
    found = place.stat()
    return found.st_size, found.tag


def sha256_of(place: GalleryPlace) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    if isinstance(place, ObjectPlace):
        return hashlib.sha256(place.fetch()[0]).hexdigest()
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_size(place: GalleryPlace) -> int:
    """The bytes of a file; as of the listing, if it comes from one in an object store."""
    return (place.stat() if isinstance(place, Path) else place.lstat()).st_size


def last_bytes(place: GalleryPlace, count: int) -> bytes:
    """The last bytes of a file; raise `FileNotFoundError`."""
    if isinstance(place, ObjectPlace):
        return bytes(place.fetch_end(count)[0])
    with place.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - count))
        return file.read()


def can_write(place: GalleryPlace) -> bool:
    """Whether the folder can be written to; for an object store this is unknown in advance."""
    return not isinstance(place, Path) or os.access(place, os.W_OK | os.X_OK)


@contextmanager
def local_copy(place: GalleryPlace) -> Iterator[Path]:
    """The file itself, or a copy of the object on this machine that ends with the process."""
    if isinstance(place, Path):
        yield place
        return
    with nameless_file() as path:
        with path.open("wb") as file:
            place.download(file)
        yield path


@contextmanager
def nameless_file() -> Iterator[Path]:
    """An empty temporary file.

    It has a path but no name, so nothing of it remains, even after a kill.
    """
    with tempfile.TemporaryFile() as file:
        yield Path(f"/proc/self/fd/{file.fileno()}")


def is_nameless(path: Path) -> bool:
    """Whether a file was made by `nameless_file`, so that it does not outlive the process."""
    return path.parent == Path("/proc/self/fd")
