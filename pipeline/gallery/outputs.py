"""Outputs: things that were made from a gallery and are elsewhere, such as reports, exports and
tables.

Each gallery lists its outputs, in one small file per output in its folder `_outputs`. So a purge
can name the outputs that may still hold erased rows. An output is listed before it is written, and
again with the SHA-256 of its files when it is complete. Outputs that are moved or copied are not
followed. An entry has the path of its gallery: entries in a copied gallery belong to the original.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.errors import InputError, RunError
from pipeline.gallery import checksums
from pipeline.gallery.copies import COPIES, holds_others, holds_rejects
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import (
    GalleryPlace,
    ObjectPlace,
    can_write,
    in_order,
    is_url,
    root_of,
)
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log.removed import removed
from pipeline.gallery.table import Gallery
from pipeline.input_files import parse_json, why

_log = logging.getLogger(__name__)
_FORMAT = 1
EXPANDED = "expanded gallery"
_EXPANSION = re.compile(r"expand-([\d.]+)-[0-9a-f]+-after-\d+")


@dataclass(frozen=True)
class Output:
    """An output at `place` that was made on the machine `host` from a `version` of a gallery.

    The gallery lists it in `file`; `gallery` was the path of that gallery. `files` has the SHA-256
    of the output's files by path. It is None until the output is complete, and always for a
    gallery.
    """

    file: GalleryPlace
    gallery: str
    kind: str
    place: GalleryPlace
    host: str
    version: int
    files: dict[str, str] | None

    @property
    def is_gallery(self) -> bool:
        """Whether it is a gallery, which has no checksum as a whole."""
        return self.kind.endswith("gallery")

    @property
    def is_here(self) -> bool:
        """Whether it was made on this machine, or is in an object store."""
        return self.host == socket.gethostname() or isinstance(self.place, ObjectPlace)

    @property
    def why_of_another(self) -> str:
        """The reason why the entry belongs to another gallery, which was then copied or moved; or
        ''.
        """
        if self.gallery == str(self.file.parents[1].resolve()):
            return ""
        return f"{self.gallery} listed it, of which this gallery is a copy, or which was moved here"

    def __str__(self) -> str:
        where = "" if self.is_here else f" on {self.host}"
        return f"{self.kind} {self.place}{where} (made from version {self.version})"


@contextmanager
def listed_in_galleries(
    kind: str, place: str | os.PathLike[str], galleries: Sequence[Gallery], *names: str
) -> Iterator[None]:
    """List an output in each gallery that it is made from; the block inside writes it.

    `names` are its files and folders below `place`; without them `place` is the file, or a gallery.
    A gallery that cannot be written to does not list it, with a warning. Raise `RunError` for a
    version that was removed meanwhile, or that a purge is removing.
    """
    path = _absolute(place)
    sources = list({each.location: each for each in galleries}.values())
    is_gallery = kind.endswith("gallery")  # whose versions are whole at any instant
    host = socket.gethostname()
    begun: dict[str, str] | None = {} if is_gallery else None
    entries = [
        Output(_entry_file(each, path), _place(each), kind, path, host, each.version, begun)
        for each in sources
    ]
    kept = [_is_kept(entry, each) for entry, each in zip(entries, sources, strict=True)]
    # Listed first, so that a purge at the same time either sees the entry or is seen here.
    for each in sources:
        removal = removed(root_of(each.location), each.version)
        if removal is not None:
            raise removal
    yield
    if is_gallery or not isinstance(path, Path):
        return
    files = {str(each): digest(each) for each in ([path / n for n in names] or [path])}
    for entry, is_kept in zip(entries, kept, strict=True):
        if is_kept:
            _keep(replace(entry, files=files))


def outputs_of(gallery: Gallery) -> list[Output]:
    """All listed outputs that may still exist; raise `GalleryDamagedError` for a file that is not
    an entry.
    """
    found = []
    folder = root_of(gallery.location) / storage.OUTPUTS_FOLDER
    for file in in_order(folder.glob("*.json")):
        data = checksums.read_recorded(file, "look for the outputs of the gallery yourself")
        if data is None:
            continue
        try:
            about = parse_json(data)
            if about["regallery_output"] != _FORMAT:
                raise ValueError("it is of another format")
            files = None if about["files"] is None else dict(about["files"])
            place, version = root_of(about["place"]), int(about["version"])
            made_from, kind, host = (str(about[name]) for name in ("gallery", "kind", "host"))
            found.append(Output(file, made_from, kind, place, host, version, files))
        except (ValueError, KeyError, TypeError) as error:
            raise GalleryDamagedError(f"{file}: this does not name an output ({error})") from error
    return [each for each in found if not _is_gone(each)]


def stale_outputs(gallery: Gallery) -> list[Output]:
    """Listed outputs that may hold rows which this version, the latest, does not have.

    Outputs of a version that can no longer be read are included.
    """
    now, known = gallery.row_ids(), {gallery.version: False}
    found = []
    for output in outputs_of(gallery):
        version = _made_from(output, gallery)
        if version not in known:
            known[version] = version < gallery.version and _has_more(gallery, version, now)
        if output.kind in COPIES:
            left = known[version] and _is_unfinished(output)
            holds_more = left or _copies_others(output, gallery, now)
        else:
            holds_more = known[version] and not _is_subset(output, gallery)
        if output.files is None or holds_more:
            found.append(replace(output, version=version))
        elif version < gallery.version:  # all its rows stay: no need to ask again
            _keep(replace(output, version=gallery.version))
    return found


def forget_gone(gallery: Gallery) -> None:
    """Remove deleted outputs from the list."""
    left = {each.file for each in outputs_of(gallery)}
    folder = root_of(gallery.location) / storage.OUTPUTS_FOLDER
    storage.delete_files(file for file in folder.glob("*.json") if file not in left)


def remove(output: Output, is_ours: Callable[[Output], bool]) -> str | None:
    """Delete the files of an output, then its entry; return the reason if that is impossible.

    Delete nothing if a file has changed since it was written or has another name, or if `is_ours`
    says that the files are not of this kind.
    """
    if output.why_of_another:
        return output.why_of_another
    if output.files is None:
        return "it was not finished, and nobody knows which files it has"
    if not isinstance(output.place, Path):
        return "it is in an object store"
    try:
        for each, sha256 in ((Path(path), told) for path, told in output.files.items()):
            if output.place not in (each, each.parent):
                return f"{each} is not a part of it"
            if not os.path.lexists(each):
                return f"{each} is not there"
            if (other := _with_another_name(each)) is not None:
                return f"{other} is a link, or has another name (a hard link)"
            if digest(each) != sha256:
                return f"{each} was changed since (SHA-256)"
        if not is_ours(output):
            return "its files are not what this tool writes"
        for each in map(Path, output.files):
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    except OSError as error:
        return f"it cannot be deleted ({why(error)})"
    if output.place.is_dir():
        with suppress(OSError):  # files of others stay in it
            output.place.rmdir()
    storage.delete_files([output.file])
    return None


def _with_another_name(path: Path) -> Path | None:
    """The first part of an output that is not a regular file with a single name, so its bytes would
    remain.
    """
    for each in (path, *path.rglob("*")):
        about = each.lstat()
        is_folder = stat.S_ISDIR(about.st_mode)
        if not is_folder and not (stat.S_ISREG(about.st_mode) and about.st_nlink == 1):
            return each
    return None


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and bytes of a folder's files."""
    told = hashlib.sha256()
    if path.is_dir():
        for each in sorted(path.iterdir()):
            told.update(f"{each.name} {digest(each)}\n".encode(errors="surrogateescape"))
        return told.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_gone(output: Output) -> bool:
    """Whether it was made on this machine, and no longer exists."""
    if isinstance(output.place, ObjectPlace):
        return not output.place.exists()
    return (
        output.is_here
        and output.place.parent.is_dir()
        and not os.path.lexists(output.place)
        and not any(os.path.lexists(path) for path in output.files or ())
    )


def _made_from(output: Output, gallery: Gallery) -> int:
    """The earliest version whose rows the output may hold; the log of an expanded gallery says
    so.
    """
    if output.kind == EXPANDED:
        with suppress(InputError, RunError, KeyError, ValueError, IndexError):
            derived = Gallery.open(str(output.place))
            parents = str(parse_json(derived.properties["derived"])["parent"]).split("\n")
            places = [str(root_of(each).resolve()) for each in parents]
            place = places.index(output.gallery) if len(places) > 1 else 0
            runs = [each.run_id for each in derived.history()]
            made = [_EXPANSION.fullmatch(run or "") for run in runs if run is not None]
            if made and all(made):
                return min(int(match[1].split(".")[place]) for match in made if match)
    return min(output.version, gallery.version)


def _has_more(gallery: Gallery, version: int, now: np.ndarray) -> bool:
    try:
        then = Gallery.open(gallery.location, version).row_ids()
    except (InputError, RunError):
        return True
    return bool(len(np.setdiff1d(then, now)))


def _is_unfinished(output: Output) -> bool:
    """Whether a killed run left files in a gallery that no version of it has."""
    try:
        found = Gallery.open(str(output.place)).find_units()
    except (InputError, RunError):
        return True
    return bool(found.units or found.damaged or found.orphans)


def _copies_others(output: Output, gallery: Gallery, now: np.ndarray) -> bool:
    """Whether a version of a gallery of copies has rows of other ids than those of `now` `[N]`, or
    rejects that only older versions of `gallery` have.
    """
    place = str(output.place)
    try:
        if holds_others(place, output.gallery, now):
            return True
        return holds_rejects(place, gallery, _gone_rejects(gallery))
    except (InputError, RunError):
        return True


def _gone_rejects(gallery: Gallery) -> set[str]:
    """The paths of rejects that older versions have, and this one does not."""
    gone: set[str] = set()
    for version in gallery.history():
        with suppress(InputError, RunError):  # removed by a purge or a clean
            older = Gallery.open(gallery.location, version.version)
            gone.update(older.rejects()["path"].to_pylist())
    return gone - set(gallery.rejects()["path"].to_pylist())


def _is_subset(output: Output, gallery: Gallery) -> bool:
    """Whether all versions of an independent gallery have only images that this version has."""
    if not output.is_gallery or output.kind == EXPANDED:
        return False
    columns = ["path", "content_hash"]
    try:
        wanted = set(zip(*gallery.rows(columns).to_pydict().values(), strict=True))
        for version in Gallery.open(str(output.place)).history():
            rows = Gallery.open(str(output.place), version.version).rows(columns)
            if not wanted.issuperset(zip(*rows.to_pydict().values(), strict=True)):
                return False
    except (InputError, RunError):
        return False
    return True


def _absolute(place: str | os.PathLike[str]) -> GalleryPlace:
    """A URL, or a path with resolved links except in its last part."""
    if is_url(place):
        return root_of(place)
    path = Path(place).absolute()
    return path.parent.resolve() / path.name


def _place(gallery: Gallery) -> str:
    return str(root_of(gallery.location).resolve())


def _entry_file(gallery: Gallery, place: GalleryPlace) -> GalleryPlace:
    told = str(place) if isinstance(place, ObjectPlace) else f"{socket.gethostname()}:{place}"
    name = hashlib.blake2b(told.encode(errors="surrogateescape"), digest_size=16).hexdigest()
    return root_of(gallery.location) / storage.OUTPUTS_FOLDER / f"{name}.json"


def _is_kept(entry: Output, gallery: Gallery) -> bool:
    """List an output; False, with a warning, if the gallery's folder cannot be written to."""
    root = root_of(gallery.location)
    records = storage.record_of(entry.file).parent
    folders: Sequence[GalleryPlace] = (root, entry.file.parent, records, records.parent)
    is_local = isinstance(root, Path)
    if is_local and not all(can_write(each) for each in folders if each.exists()):
        _log.warning(
            "%s cannot be written to: a purge of it would not know of %s", root, entry.place
        )
        return False
    _keep(entry)
    return True


def _keep(entry: Output) -> None:
    about = {
        "regallery_output": _FORMAT,
        "gallery": entry.gallery,
        "kind": entry.kind,
        "place": str(entry.place),
        "host": entry.host,
        "version": entry.version,
        "files": entry.files,
    }
    text = json.dumps(about, indent=2) + "\n"
    storage.make_folder(entry.file.parent)
    storage.drop_cut_off(entry.file.parent, entry.file.name)
    checksums.write_recorded(entry.file, lambda temporary: temporary.write_text(text))
