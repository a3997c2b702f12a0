"""The locations of sources: local paths, and URLs of the file systems that fsspec knows."""

import os
from functools import lru_cache
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem

from pipeline.errors import InputError


def local_path(location: str) -> Path | None:
    """The absolute path of a local location (a plain path or file://); None for any other URL.

    >>> local_path("file:///data/crops")
    PosixPath('/data/crops')
    >>> local_path("s3://bucket/crops") is None
    True
    """
    if location.startswith("file://"):
        location = location.removeprefix("file://")
    elif "://" in location:
        return None
    return Path(os.path.abspath(Path(location).expanduser()))  # noqa: PTH100 (drops "..")


def locate(location: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a location (path or fsspec URL), and the location's path on it.

    Raise InputError if no such file system is known or installed.
    """
    local = local_path(location)
    if local is not None:
        return fsspec.filesystem("file"), str(local)
    return _locate_url(location)


@lru_cache(maxsize=256)
def _locate_url(url: str) -> tuple[AbstractFileSystem, str]:
    try:
        filesystem, path = fsspec.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise InputError(f"{url}: {error}") from error
    return filesystem, path.rstrip("/")


def bare(location: str) -> str:
    """The location without trailing slashes.

    >>> bare("s3://bucket/crops/"), bare("memory://")
    ('s3://bucket/crops', 'memory://')
    """
    cut = location.rstrip("/")
    return f"{cut}//" if cut.endswith(":") else cut


def join(root: str, path: str) -> str:
    """The location of `path`: itself if it is a URL or absolute, otherwise below `root`.

    >>> join("s3://bucket/crops", "c1/1.jpg"), join("/data", "/other/1.jpg")
    ('s3://bucket/crops/c1/1.jpg', '/other/1.jpg')
    """
    if path.startswith("/") or "://" in path:
        return path
    return f"{bare(root)}/{path}"


def reach_file(root: str, path: str) -> tuple[AbstractFileSystem, str]:
    """The file system of `path` (below `root`, absolute, or a URL), and its path there.

    Only the folder is parsed as a URL, because a file's name may have any character.
    """
    location = join(root, path)
    if location == path:
        root, path = location.rsplit("/", 1)
    filesystem, base = locate(root)
    return filesystem, f"{base}/{path}"


def is_local(filesystem: AbstractFileSystem) -> bool:
    """Whether paths of the file system are local to this machine.

    >>> is_local(locate("crops")[0]), is_local(locate("memory://crops")[0])
    (True, False)
    """
    protocol = filesystem.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)
