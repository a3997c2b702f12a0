"""How often the work on a unit has begun: so that one that kills its worker is not tried for ever.

A file beside the half-done units holds a byte for every attempt. It is there before the work
begins and gone when the unit is finished, so it outlives the worker. A run that is stopped leaves
some behind; they are among what `Gallery.clear` deletes before the next begins.
"""

from pathlib import Path

from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.unit_files import UnitTarget


def begin(target: UnitTarget, unit_id: str) -> int:
    """Note one more attempt at a unit; returns how many there have been, this one included.

    GalleryDamagedError where the file is not as it was written.
    """
    path = _path(target, unit_id)
    storage.make_folder(path.parent)
    made = (checksums.read(path, "run the command again") or b"") + b"."
    checksums.write_whole(path, lambda temporary: temporary.write_bytes(made))
    return len(made)


def end(target: UnitTarget, unit_id: str) -> None:
    """Forget the attempts at a unit: it is finished."""
    storage.delete_files([_path(target, unit_id)])


def _path(target: UnitTarget, unit_id: str) -> Path:
    folder = storage.local_root(target.location) / storage.UNITS_FOLDER
    return folder / f"{unit_id}.attempts"
