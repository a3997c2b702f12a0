"""Units that interrupted runs left in a gallery's folder: whole ones, and unusable files."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, ObjectPlace, in_order, root_of
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.files.unit_files import (
    REJECTS_FILE,
    UNIT_FILE,
    UnitRecord,
    UnitTarget,
    read_footer,
    read_unit_record,
    unit_metadata,
)

_ATTEMPTS_FILE = re.compile(r"[A-Za-z0-9_]+\.attempts")  # of `sidecars.attempts`


@dataclass(frozen=True)
class FoundUnits:
    """The remains of interrupted runs: whole units, and unusable files with the reason."""

    units: tuple[UnitRecord, ...]
    damaged: tuple[tuple[GalleryPlace, str], ...]
    orphans: tuple[GalleryPlace, ...]


def find_units(target: UnitTarget, next_row_id: int) -> FoundUnits:
    """Find the units that were finished and not committed: those with row ids from `next_row_id`
    on.

    Each is verified (footer, row count, recipe, its rejects). A unit whose row ids overlap those of
    an earlier one is unusable, too, since the two come from different plans. Nothing on the disk
    changes.
    """
    root = root_of(target.location)
    whole: list[UnitRecord] = []
    damaged: list[tuple[GalleryPlace, str]] = []
    for name in _candidates(root, next_row_id):
        try:
            unit = read_unit_record(root, name, target)
        except GalleryDamagedError as error:
            damaged.append((root / name, str(error)))
            continue
        if whole and unit.first_row_id < whole[-1].end_row_id:
            if unit.path is not None or unit.unit_id != whole[-1].unit_id:
                reason = f"{root / name}: its row ids overlap those of unit {whole[-1].unit_id}"
                damaged.append((root / name, reason))
            continue
        whole.append(unit)
    return FoundUnits(tuple(whole), tuple(damaged), tuple(_orphans(root, whole, damaged)))


def row_files_from(root: ObjectPlace, first: UnitRecord) -> Iterator[ObjectPlace]:
    """The row files of a unit and of all units after it, found by one listing."""
    for place in root.later(f"{first.first_row_id:012d}"):
        if not place.name[:1].isdigit() or place.parent != root:
            return  # the hidden folders come after all row files
        yield place


def _candidates(root: GalleryPlace, next_row_id: int) -> list[str]:
    """Files of uncommitted units by first row id; rows before rejects of the same unit."""
    names: list[tuple[int, bool, str]] = []
    for path in _files(root):
        match = UNIT_FILE.fullmatch(path.name)
        if match and int(match[1]) >= next_row_id:
            names.append((int(match[1]), False, path.name))
    for path in _files(root / storage.UNITS_FOLDER):
        match = REJECTS_FILE.fullmatch(path.name)
        if match and int(match[1]) >= next_row_id and _is_whole_unit(path):
            names.append((int(match[1]), True, f"{storage.UNITS_FOLDER}/{path.name}"))
    return [name for _, _, name in sorted(names)]


def _is_whole_unit(path: GalleryPlace) -> bool:
    """Whether a file of rejects is a whole unit, or cannot be read (and must be reported)."""
    try:
        return unit_metadata(path, read_footer(path))["rows"] == 0
    except GalleryDamagedError:
        return True


def _orphans(
    root: GalleryPlace, units: Iterable[UnitRecord], damaged: Iterable[tuple[GalleryPlace, str]]
) -> Iterator[GalleryPlace]:
    """Yield the files of the hidden folder that no found unit needs.

    These are half-written ones, those of second writers, and those of committed units.
    """
    needed = {root / unit.rejects_path for unit in units if unit.rejects_path}
    told = {path for path, _ in damaged}
    for path in unfinished_units(root):
        if path not in needed and path not in told:
            yield path


def unfinished_units(root: GalleryPlace) -> list[GalleryPlace]:
    """The files of the hidden folder: rejects of units, attempts at them, and unfinished files of
    writers.
    """
    return [
        path
        for path in _files(root / storage.UNITS_FOLDER)
        if REJECTS_FILE.fullmatch(path.name)
        or _ATTEMPTS_FILE.fullmatch(path.name)
        or storage.is_temporary(path)
    ]


def _files(folder: GalleryPlace) -> list[GalleryPlace]:
    return in_order(filter(storage.is_own_file, folder.iterdir())) if folder.is_dir() else []
