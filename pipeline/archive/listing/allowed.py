"""The places that a manifest may read: a manifest may come from somebody else, and name any file.

Without `allow_root` it may name any place that its user can read, except system folders and hidden
folders (`.ssh`, `.aws`), which are also skipped in a source folder. With `allow_root` it may read
its own folder and everything below these roots. Links are resolved first: the real location of a
file counts.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.archive.locations import bare, is_local, local_path, locate
from pipeline.errors import InputError

_OF_SYSTEM = ("/boot", "/dev", "/etc", "/proc", "/sys")
_BUT_FOR = "/dev/shm"  # a disk in memory


@dataclass(frozen=True)
class AllowedPlaces:
    """The places that the manifest `manifest` may read.

    `own` is its folder, and `roots` are the additional ones: real paths, or URLs.
    """

    manifest: str
    own: str
    roots: tuple[str, ...]

    def check_folder(self, folder: str, path: str) -> None:
        """Raise InputError unless files in this folder may be read; the manifest names one as
        `path`.
        """
        if "://" in folder:
            filesystem, base = locate(folder)
            if not is_local(filesystem):
                self._check_url(folder, path)
                return
            folder = base
        self._check_local(os.path.realpath(folder), path)

    def check_link(self, location: str, path: str) -> None:
        """Raise InputError unless the target of a local link may be read."""
        self.check_folder(os.path.dirname(os.path.realpath(location)), path)  # noqa: PTH120 (as fast as can be)

    def _check_local(self, folder: str, path: str) -> None:
        if any(_is_below(folder, root) for root in self.roots):
            return
        inside = _is_below(folder, self.own)
        if self.roots and not inside:
            raise self._refusal(path, folder, "outside the roots that are allowed")
        rest = folder.removeprefix(self.own) if inside else folder
        if any(part.startswith(".") for part in PurePosixPath(rest).parts):
            raise self._refusal(path, folder, "in a hidden folder")
        if not inside and _is_of_system(folder):
            raise self._refusal(path, folder, "in a folder of the system")

    def _check_url(self, folder: str, path: str) -> None:
        if not self.roots:
            return
        places = (self.own, *self.roots)
        if ".." in folder.split("/") or not any(_is_below(folder, root) for root in places):
            raise self._refusal(path, folder, "outside the roots that are allowed")

    def _refusal(self, path: str, folder: str, why: str) -> InputError:
        return InputError(
            f"manifest {self.manifest} names {path}, which lies in {folder}, {why}: nothing was"
            f" read; if it is meant, add {folder} to `allow_root`"
        )


def allowed_places(manifest: str, root: str, given: Sequence[str]) -> AllowedPlaces:
    """Find the places that the manifest at a location, in the folder `root`, may read by
    `allow_root`.

    Raise InputError for a root that does not exist on this machine.
    """
    return AllowedPlaces(manifest, _real(root), tuple(_given(each) for each in given))


def _given(root: str) -> str:
    local = local_path(root)
    if local is not None and not local.is_dir():
        raise InputError(f"`allow_root` {root}: the folder does not exist")
    return _real(root)


def _real(root: str) -> str:
    local = local_path(root)
    return bare(root) if local is None else os.path.realpath(local)


def _is_below(folder: str, root: str) -> bool:
    """Whether a folder is a root, or lies below it.

    >>> _is_below("/data/a", "/data"), _is_below("/database", "/data"), _is_below("/a", "/")
    (True, False, True)
    """
    return folder == root or folder.startswith(root.rstrip("/") + "/")


def _is_of_system(folder: str) -> bool:
    return any(_is_below(folder, each) for each in _OF_SYSTEM) and not _is_below(folder, _BUT_FOR)
