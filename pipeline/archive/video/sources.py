"""Find the videos and pictures with boxes that a source names, each with its box files."""

import logging
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from fsspec import AbstractFileSystem

from pipeline.archive.faults import Rejected
from pipeline.archive.layouts.labels import LayoutError, camera_name, capture_time
from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.listing.files import skip_reason
from pipeline.archive.locations import reach_file
from pipeline.archive.video import box_files, box_tables
from pipeline.archive.video.boxes import Boxes
from pipeline.archive.video.container import SUFFIXES
from pipeline.errors import InputError

_OF_VIDEOS = ("video", "camera", "boxes", "started_at", "fps")
_MOST_IMAGES = 10_000
"""A folder with this many images before the first video counts as a folder of images."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BoxSource:
    """Boxes of a video or picture: those of a file, or rows of a table; and the camera, if it is
    stated.

    `path` is None if the boxes are known already.
    """

    path: str | None
    camera: str | None = None
    boxes: Boxes | None = None


@dataclass(frozen=True)
class Entry:
    """A video (or picture) and its stated properties; paths are relative to the source's root."""

    file: str
    sources: tuple[BoxSource, ...] = ()
    started_at: datetime | None = None
    fps: float | None = None
    is_picture: bool = False


@dataclass
class FoundVideos:
    """The entries of a source below its root, and the files that are left out, by reason."""

    root: str
    entries: list[Entry]
    skipped: Counter[str] = field(default_factory=Counter)


def is_video(name: str) -> bool:
    """Whether a name has a suffix of videos."""
    return posixpath.splitext(name)[1].lower() in SUFFIXES


def find(
    filesystem: AbstractFileSystem, path: str, root: str, settings: LabelSettings
) -> FoundVideos | None:
    """Find the videos and boxes of the source at `path`, which is `root`; None for a source of
    images.

    A source is a video, a folder of videos, a box file that names its pictures or videos (COCO,
    CVAT, or a table with a column image or video), or a table of videos.
    """
    if filesystem.isdir(path):
        return _of_folder(filesystem, path, root)
    folder, _, name = root.rpartition("/")
    if is_video(name):
        boxes = box_files.beside(name, _names(filesystem, path.rpartition("/")[0]))
        if boxes is None:
            raise InputError(f"{root}: {_NO_BOXES}")
        return FoundVideos(folder, [Entry(name, (BoxSource(boxes),))])
    suffix = posixpath.splitext(name)[1].lower()
    if suffix in (".json", ".xml"):
        return FoundVideos(
            folder, _by_file(box_files.read_boxes(filesystem, path, beside_video=False))
        )
    if suffix in box_tables.SUFFIXES:
        table = box_tables.read_table(filesystem, path)
        names = set(table.column_names)
        if not names & {"video", "image"} or "path" in names:
            return None
        if box_tables.is_box_table(table.column_names):
            return FoundVideos(folder, _by_file(box_tables.as_boxes(table, root)))
        if "video" in names:
            return FoundVideos(folder, list(_of_table(table, root, settings)))
    return None


_NO_BOXES = (
    "there is no box file beside it, of the same name and with another ending: "
    + ", ".join(box_files.ENDINGS)
    + ", or a folder of YOLO files"
)


def _of_folder(filesystem: AbstractFileSystem, path: str, root: str) -> FoundVideos | None:
    """The videos below a folder, if at least one has boxes."""
    videos: list[tuple[str, str | None]] = []
    skipped = Counter[str]()
    images = 0
    for folder, folders, files in filesystem.walk(path):
        names = {*folders, *files}
        own = {name for name in files if is_video(name) and not name.startswith(".")}
        boxes = {name: box_files.beside(name, names) for name in sorted(own)}
        below = folder[len(path) :].strip("/")
        videos += [
            (posixpath.join(below, name), found and posixpath.join(below, found))
            for name, found in boxes.items()
        ]
        taken = own | {found for found in boxes.values() if found}
        folders[:] = [name for name in folders if name not in taken and not name.startswith(".")]
        for name in {*files} - taken:
            reason = skip_reason(name)
            images += reason is None
            skipped[reason or posixpath.splitext(name)[1].lower()] += 1
        if images >= _MOST_IMAGES and not any(found for _, found in videos):
            return None
    if not any(found for _, found in videos):
        if videos and not images:
            raise InputError(f"{root}/{videos[0][0]}: {_NO_BOXES}")
        return None
    entries = [Entry(name, (BoxSource(found),) if found else ()) for name, found in sorted(videos)]
    return FoundVideos(root, entries, skipped)


def _names(filesystem: AbstractFileSystem, folder: str) -> set[str]:
    return {posixpath.basename(each.rstrip("/")) for each in filesystem.ls(folder, False)}


def _by_file(boxes: Boxes) -> list[Entry]:
    """The boxes of a file that names videos or pictures, as one entry for each of these."""
    names = boxes.table["file"]
    if names.null_count:
        raise InputError(f"{names.null_count} boxes do not say which video or picture they are of")
    entries = []
    for name in sorted(names.unique().to_pylist()):
        part = boxes.table.filter(pc.equal(names, name))
        source = BoxSource(None, None, boxes._replace(table=part))
        entries.append(Entry(_normal(name), (source,), is_picture=not is_video(name)))
    return entries


def _of_table(table: pa.Table, name: str, settings: LabelSettings) -> Iterator[Entry]:
    """Yield the videos of a table, in order of name; a video in several rows has several box
    files.
    """
    if ignored := [each for each in table.column_names if each not in _OF_VIDEOS]:
        _log.info("%s: columns not read: %s", name, ", ".join(ignored))
    entries: dict[str, Entry] = {}
    for number, row in enumerate(table.to_pylist(), start=1):
        where = f"{name}, row {number}"
        if not row["video"]:
            raise InputError(f"{where} names no video")
        video = _normal(row["video"])
        boxes = row.get("boxes")
        source = BoxSource(
            _normal(boxes) if boxes else None, camera_name(str(row.get("camera") or ""))
        )
        entry = Entry(
            video,
            (source,),
            _moment(row.get("started_at"), where, settings),
            _fps(row.get("fps"), where),
        )
        before = entries.get(video)
        if before is not None:
            if (before.started_at, before.fps) != (entry.started_at, entry.fps):
                raise InputError(f"{where}: {video} has another started_at or fps than above")
            entry = replace(entry, sources=(*before.sources, source))
        entries[video] = entry
    if not entries:
        raise InputError(f"{name} has no row")
    return iter(entries[video] for video in sorted(entries))


def _normal(path: str) -> str:
    return path if "://" in path else posixpath.normpath(path)


def _moment(value: Any, where: str, settings: LabelSettings) -> datetime | None:
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=settings.zone)
    try:
        return capture_time(str(value), settings.zone)
    except LayoutError as error:
        raise InputError(f"{where}: started_at {value}: {error}") from error


def _fps(value: Any, where: str) -> float | None:
    if value is None:
        return None
    try:
        fps = float(value)
    except ValueError as error:
        raise InputError(f"{where}: fps {value!r} is no number") from error
    if not 0 < fps < 1e6:
        raise InputError(f"{where}: fps must be above 0, not {value}")
    return fps


def file_facts(root: str, file: str) -> tuple[int, datetime | None]:
    """The bytes of a file and when it was changed; Rejected where it is not there."""
    filesystem, there = reach_file(root, file)
    try:
        about = filesystem.info(there)
    except FileNotFoundError as error:
        reason = "missing-video" if is_video(file) else "missing"
        raise Rejected(reason, "the file does not exist") from error
    if about["type"] == "directory":
        raise Rejected("unreadable-video", "it is a folder")
    keys = ("mtime", "LastModified", "last_modified", "updated", "created")
    changed: Any = next((about[key] for key in keys if about.get(key) is not None), None)
    if isinstance(changed, int | float):
        changed = datetime.fromtimestamp(changed, UTC)
    elif isinstance(changed, str):
        changed = datetime.fromisoformat(changed)
    return about["size"] or 0, changed
