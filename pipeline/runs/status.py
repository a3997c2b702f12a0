"""Who changes a gallery, and the progress: seen by any machine in the gallery's storage."""

from datetime import UTC, datetime
from typing import Literal

from pipeline.errors import InputError
from pipeline.gallery import opening
from pipeline.gallery.log.lock import holder
from pipeline.gallery.progress import read_progress
from pipeline.runs.outcomes import GalleryStatus


def gallery_status(location: str) -> GalleryStatus:
    """Who changes the gallery at a location now, and how far that is; reads no row.

    Raise InputError if there is no gallery and none is being made.
    """
    owner = holder(location)
    if owner is None and not opening.exists(location):
        raise InputError(f"{location}: there is no gallery")
    progress = read_progress(location)
    if owner is None:
        state: Literal["interrupted", "idle"] = "idle" if progress is None else "interrupted"
        return GalleryStatus(location, state, progress=progress)
    return GalleryStatus(
        location,
        "running",
        owner.purpose,
        owner.host,
        owner.process,
        datetime.fromtimestamp(owner.since, UTC).isoformat(timespec="seconds"),
        # What an earlier run left says nothing of this one.
        progress if progress is not None and progress.token == owner.token else None,
    )
