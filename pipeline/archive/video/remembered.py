"""What videos hold, remembered on this machine: an unchanged video is not read again.

The notes lie below `cache_folder() / "videos"`, a file for each video, named by a hash of its
location, size, time of change, and the version of FFmpeg. They have no pixel and no name. Nothing
there is needed: who deletes it makes the next run read the videos again.
"""

import hashlib
import json
import logging
import os
import time
import zipfile
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipeline.archive.locations import join
from pipeline.archive.video.index import FrameRuns, VideoIndex, index_video
from pipeline.archive.video.sources import file_facts
from pipeline.errors import RunError
from pipeline.fetched_files import cache_folder
from pipeline.output_files import replace_file

_FORMAT = 1
_KEPT_SECONDS = 180 * 86_400
"""A note that nobody needed for so long is deleted."""

_log = logging.getLogger(__name__)


def remembered_index(
    root: str, file: str, size: int, mtime: datetime | None, *, afresh: bool = False
) -> VideoIndex:
    """`index_video` of a file of that size and time of change; from a note, where there is one.

    With `afresh` the video is read whatever a note says. Raise what `index_video` raises.
    """
    if mtime is None:
        return index_video(root, file)
    note = _note(join(root, file), size, mtime)
    if not afresh and (known := _read_note(note)) is not None:
        return known
    index = index_video(root, file)
    if file_facts(root, file) != (size, mtime):
        _log.warning("%s is being written: its end comes with the next run", join(root, file))
        return index
    try:
        _forget_old(note.parent.parent)
        _write_note(note, index)
    except (OSError, RunError) as error:
        _log.debug("%s cannot be written: %s", note, error)
    return index


def _note(location: str, size: int, mtime: datetime) -> Path:
    about = [_FORMAT, av.ffmpeg_version_info, location, size, mtime.isoformat()]
    name = hashlib.sha256(json.dumps(about).encode(errors="surrogateescape")).hexdigest()
    return cache_folder() / "videos" / name[:2] / f"{name}.npz"


def _read_note(path: Path) -> VideoIndex | None:
    """What a note says; None where there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            told = json.loads(str(kept["about"]))
            started = told["started_at"]
            index = VideoIndex(
                width=told["width"],
                height=told["height"],
                micros=np.cumsum(kept["micros"]),
                packet=np.cumsum(kept["packet"]),
                run=np.cumsum(kept["run"]),
                runs=FrameRuns(
                    packet=kept["run_packet"],
                    seek=kept["run_seek"],
                    size=kept["run_size"],
                    content_hash=[row.tobytes() for row in kept["run_hash"]],
                ),
                started_at=None if started is None else datetime.fromisoformat(started),
                damage=told["damage"],
            )
        os.utime(path)
        return index
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        _log.debug("%s: the note is damaged, and is written again: %s", path, error)
        return None


def _write_note(path: Path, index: VideoIndex) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    started = index.started_at
    about = {
        "width": index.width,
        "height": index.height,
        "started_at": None if started is None else started.isoformat(),
        "damage": index.damage,
    }
    hashes = np.frombuffer(b"".join(index.runs.content_hash), np.uint8)
    columns: dict[str, Any] = {
        "about": np.array(json.dumps(about)),
        "micros": np.diff(index.micros, prepend=0),  # differences are small, and pack well
        "packet": np.diff(index.packet, prepend=0),
        "run": np.diff(index.run, prepend=0),
        "run_packet": index.runs.packet,
        "run_seek": index.runs.seek,
        "run_size": index.runs.size,
        "run_hash": hashes.reshape(len(index.runs.content_hash), -1),
    }
    replace_file(path, lambda file: np.savez_compressed(file, **columns))


@lru_cache(maxsize=1)
def _forget_old(folder: Path) -> None:
    """Once a run: delete notes that were not needed for long, and those cut off by a kill."""
    limit = time.time() - _KEPT_SECONDS
    for each in folder.glob("*/*"):
        with suppress(OSError):
            if each.stat().st_mtime < limit:
                each.unlink()
