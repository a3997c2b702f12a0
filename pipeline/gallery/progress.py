"""The progress of the run that changes a gallery: a small file beside the lock, for other machines.

The writer updates it regularly, and deletes it when the run has ended well. After a kill it stays,
and shows how far the run came.
"""

import json
from dataclasses import asdict, dataclass, fields

from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import root_of
from pipeline.input_files import parse_json


@dataclass(frozen=True)
class RunProgress:
    """The current step of a run: `done` of `total`, at `rate` per second; times are ISO 8601, UTC.

    `token` is that of the run's lock. An extraction counts crops, and also states its finished work
    units and its rejects.
    """

    token: str
    step: str
    done: int
    total: int
    rate: float | None
    ends: str | None
    renewed: str
    units_done: int | None = None
    units: int | None = None
    rejected: int | None = None


def write_progress(location: str, progress: RunProgress) -> None:
    """Store the progress of a run, in place of an earlier one; raise RunError if that fails."""
    path = root_of(location) / storage.PROGRESS_FILE
    text = json.dumps(asdict(progress)) + "\n"
    checksums.write_recorded(path, lambda whole: whole.write_text(text, encoding="utf-8"))


def read_progress(location: str) -> RunProgress | None:
    """The stored progress; None if no run is under way or was interrupted, or if another version of
    this tool wrote it.

    Raise GalleryDamagedError if the file has changed since it was written.
    """
    path = root_of(location) / storage.PROGRESS_FILE
    data = checksums.read_recorded(path, "the next run writes it again")
    if data is None:
        return None
    about = parse_json(data)
    known = {field.name for field in fields(RunProgress)}
    return RunProgress(**about) if about.keys() == known else None


def drop_progress(location: str) -> None:
    """Delete the progress: its run has ended."""
    storage.delete_files([root_of(location) / storage.PROGRESS_FILE])
