"""How often the work on a unit has begun: so that one that kills its worker is not tried for ever.

A file beside the half-done units holds a byte for every attempt. It is there before the work
begins and gone when the unit is finished, so it outlives the worker. A run that is stopped leaves
some behind; they are among what `Gallery.clear` deletes before the next begins.
"""

from pathlib import Path

from pipeline.gallery.files import storage
from pipeline.gallery.files.unit_files import UnitTarget
from pipeline.output_files import told_by_name


def begin(target: UnitTarget, unit_id: str) -> int:
    """Note one more attempt at a unit; returns how many there have been, this one included."""
    path = _path(target, unit_id)
    storage.make_folder(path.parent)
    with told_by_name(path), path.open("ab") as file:
        file.write(b".")
        return file.tell()


def end(target: UnitTarget, unit_id: str) -> None:
    """Forget the attempts at a unit: it is finished."""
    _path(target, unit_id).unlink(missing_ok=True)


def _path(target: UnitTarget, unit_id: str) -> Path:
    folder = storage.local_root(target.location) / storage.UNITS_FOLDER
    return folder / f"{unit_id}.attempts"
