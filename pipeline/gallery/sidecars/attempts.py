"""Count the attempts at a unit, so that a unit that kills its worker is not tried forever.

A file beside the unfinished units has a byte for every attempt. It is written before the work
begins and deleted when the unit is finished, so it outlives the worker. A run that is stopped
leaves some files behind; `Gallery.clear` deletes them before the next run begins.
"""

from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, root_of
from pipeline.gallery.files.unit_files import UnitTarget


def note_attempt(target: UnitTarget, unit_id: str) -> int:
    """Record one more attempt at a unit; return how many there have been, including this one.

    Raise GalleryDamagedError if the file has changed since it was written.
    """
    path = _path(target, unit_id)
    storage.make_folder(path.parent)
    made = (checksums.read_recorded(path, "run the command again") or b"") + b"."
    checksums.write_recorded(path, lambda temporary: temporary.write_bytes(made))
    return len(made)


def end(target: UnitTarget, unit_id: str) -> None:
    """Delete the count of attempts at a unit, which is finished."""
    storage.delete_files([_path(target, unit_id)])


def _path(target: UnitTarget, unit_id: str) -> GalleryPlace:
    folder = root_of(target.location) / storage.UNITS_FOLDER
    return folder / f"{unit_id}.attempts"
