"""List videos with boxes: every box with its name, time and place, and every box that does not
become a row.
"""

import logging
import posixpath
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fsspec import AbstractFileSystem

from pipeline.archive.faults import Rejected
from pipeline.archive.layouts import named as layouts
from pipeline.archive.layouts.labels import LayoutError, NameLabels, camera_name
from pipeline.archive.layouts.named import Layout
from pipeline.archive.layouts.rules import AS_THEY_ARE, LabelSettings
from pipeline.archive.listing import findings
from pipeline.archive.listing.allowed import allowed_places
from pipeline.archive.listing.source import Listing, list_source
from pipeline.archive.locations import bare, join, local_path, locate, reach_file
from pipeline.archive.video import box_files, choosing, names, places, sources
from pipeline.archive.video.boxes import Boxes, chosen
from pipeline.archive.video.places import BOXES_SCHEMA
from pipeline.archive.video.rules import ALL_BOXES, BoxSettings
from pipeline.archive.video.sources import BoxSource, Entry
from pipeline.errors import InputError
from pipeline.schemas import REJECT_SCHEMA

LABEL_NAMES = ("identity", "camera", "captured_at", "tracklet")
"""The labels that boxes may have; if one of them differs, the row is extracted again."""

_READERS = 8

_log = logging.getLogger(__name__)


class _Settings(NamedTuple):
    root: str
    layout: Layout
    labels: LabelSettings
    boxes: BoxSettings
    afresh: bool


@dataclass
class _Part:
    """The contribution of one video or picture."""

    images: pa.Table = field(default_factory=BOXES_SCHEMA.empty_table)
    rejects: list[tuple[Any, ...]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def list_archive(
    source: str,
    layout: str = "none",
    labels: LabelSettings = AS_THEY_ARE,
    boxes: BoxSettings = ALL_BOXES,
    *,
    afresh: bool = False,
) -> Listing:
    """List a source of images (`list_source`), or of videos and pictures with boxes.

    The second kind is a video with a box file beside it, a folder of those, a table of videos
    (columns video, and any of camera, boxes, started_at, fps), or a box file that names its
    pictures or videos. Then `images` has `BOXES_SCHEMA`, one row per box. The packets of every
    video that is new or has another size or time are read (with `afresh` of every video), but at
    most a few frames are decoded. The layout applies to the names of videos and pictures.

    Raise InputError as `list_source` does, for a box file that cannot be read, and for `boxes` if
    the source has none.
    """
    filesystem, path = locate(source)
    local = local_path(source)
    root = bare(source) if local is None else str(local)
    filesystem.invalidate_cache()
    try:
        found = sources.find(filesystem, path, root, labels) if filesystem.exists(path) else None
    except PermissionError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}") from error
    if found is None:
        if boxes.is_given:
            raise InputError(f"{source} has no boxes: `min_confidence`, `class_`, `every` and"
                             " `per_tracklet` choose among boxes")  # fmt: skip
        return list_source(source, layout, labels)
    if not filesystem.isdir(path):
        _check_allowed(found, root, labels)
    read = layouts.layout(layout, found.root, labels)
    settings = _Settings(found.root, read, labels, boxes, afresh)
    with ThreadPoolExecutor(_READERS) as pool:
        parts = list(pool.map(partial(_list_one, settings=settings), found.entries))
    images = pa.concat_tables([part.images for part in parts])
    rejects = [reject for part in parts for reject in part.rejects]
    if not len(images) and not rejects:
        raise InputError(
            f"{root} has no box: its box files are empty, or `min_confidence`, `class_` and `every`"
            " leave all of them out"
        )
    skipped = sum((part.left_out for part in parts), found.skipped)
    _log.info("%s: boxes %d, rejects %d", root, len(images), len(rejects))
    return Listing(
        root=found.root,
        images=images.sort_by("path").combine_chunks(),
        rejects=_reject_table(rejects),
        skipped=dict(sorted(skipped.items())),
        label_names=LABEL_NAMES,
        found=findings.found_labels(images),
    )


def _check_allowed(found: sources.FoundVideos, location: str, labels: LabelSettings) -> None:
    """Raise InputError if a table or box file names a place that it may not read."""
    allowed = allowed_places(location, found.root, labels.allow_root)
    for entry in found.entries:
        for path in (entry.file, *(each.path for each in entry.sources if each.path is not None)):
            there = join(found.root, path)
            allowed.check_folder(there.rpartition("/")[0], path)
            if "://" not in there:
                allowed.check_link(there, path)


def relisted(root: str, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """List again the rows of a gallery that are boxes (`MANIFEST_SCHEMA`).

    Return them with their places (`BOXES_SCHEMA`), and the rejects (`REJECT_SCHEMA`) of those whose
    video or frame is gone.
    """
    files = places.files_of(rows)
    parts, rejects = [], []
    for file in sorted(files.unique().to_pylist()):
        part = rows.filter(pc.equal(files, file))
        try:
            part, gone = _relisted_file(root, file, part)
            parts.append(part)
        except Rejected as error:
            gone = [(path, None, None, error.reason, error.detail) for path in
                    part["path"].to_pylist()]  # fmt: skip
        rejects += gone
    boxes = pa.concat_tables([BOXES_SCHEMA.empty_table(), *parts]).sort_by("path")
    return boxes.combine_chunks(), _reject_table(rejects)


def _relisted_file(root: str, file: str, part: pa.Table) -> tuple[pa.Table, list[tuple[Any, ...]]]:
    """The boxes of one file, and the rejects of those whose frame is gone."""
    facts = sources.file_facts(root, file)
    if not sources.is_video(file):
        where = places.of_picture(len(part), facts[0])
        return _boxes({name: part[name] for name in part.column_names} | where, len(part)), []
    from pipeline.archive.video.remembered import remembered_index

    index = remembered_index(root, file, *facts)
    there = pc.less(part["frame"], len(index.packet))
    detail = f"the video has {len(index.packet)} frames now"
    lost = part.filter(pc.invert(there))["path"].to_pylist()
    part = part.filter(there)
    where = places.of_video(index, part["frame"].to_numpy().astype(np.int64))
    boxes = _boxes({name: part[name] for name in part.column_names} | where, len(part))
    return boxes, [(path, None, None, "no-frame", detail) for path in lost]


def _reject_table(rejects: list[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*rejects, strict=True) if rejects else [[]] * len(REJECT_SCHEMA)
    return pa.table(list(map(list, columns)), schema=REJECT_SCHEMA).sort_by("path")


def _boxes(columns: dict[str, Any], count: int) -> pa.Table:
    arrays = [columns.get(f.name, pa.nulls(count, f.type)) for f in BOXES_SCHEMA]
    return pa.table(arrays, names=BOXES_SCHEMA.names).cast(BOXES_SCHEMA)


def _list_one(entry: Entry, *, settings: _Settings) -> _Part:
    size = mtime = None
    try:
        size, mtime = sources.file_facts(settings.root, entry.file)
        if entry.is_picture:
            return _list_picture(entry, settings, size, mtime)
        return _list_video(entry, settings, size, mtime)
    except (Rejected, LayoutError) as error:
        reason = error.reason if isinstance(error, Rejected) else "no-layout"
        detail = error.detail if isinstance(error, Rejected) else str(error)
        return _Part(rejects=[(entry.file, size, mtime, reason, detail)])


def _list_video(entry: Entry, settings: _Settings, size: int, mtime: datetime | None) -> _Part:
    from pipeline.archive.video.remembered import remembered_index

    boxes = entry.sources and _read_all(entry, settings)
    if not boxes:
        raise Rejected("no-boxes", "there is no box file beside it")
    labels = settings.layout.parse(entry.file)
    index = remembered_index(settings.root, entry.file, size, mtime, afresh=settings.afresh)
    if index.damage:
        _log.warning("%s/%s ends early: %s", settings.root, entry.file, index.damage)
    table, left_out = _together(boxes, settings, (index.width, index.height), labels)
    frames = table["frame"].to_numpy(zero_copy_only=False)
    there = (frames >= 0) & (frames < len(index.packet))
    name = _named(entry.file, table, with_frame=True)
    bad = _faults(table, there, (index.width, index.height), len(index.packet))
    rejects = [(name[row], None, mtime, *fault) for row, fault in sorted(bad.items())]
    good = np.setdiff1d(np.arange(len(table)), list(bad)).astype(np.int64)
    table, name, frames = table.take(pa.array(good)), [name[row] for row in good], frames[good]
    frames = frames.astype(np.int64)
    micros = index.micros[frames]
    if entry.fps is not None:
        micros = np.rint(frames * (1e6 / entry.fps)).astype(np.int64)
    started = entry.started_at or labels.captured_at or index.started_at
    tracklets = [
        None if track is None else names.tracklet(entry.file, camera, track)
        for track, camera in zip(
            table["track"].to_pylist(), table["camera"].to_pylist(), strict=True
        )
    ]
    columns = places.of_video(index, frames) | {
        "path": pa.array(name, pa.string()),
        "mtime": pa.array([mtime] * len(table), pa.timestamp("us", "UTC")),
        "identity": table["identity"],
        "camera": table["camera"],
        "captured_at": _times(started, micros),
        "frame": pa.array(frames),
        "tracklet": pa.array(tracklets, pa.string()),
    }
    images = _boxes(columns, len(table))
    if (count := settings.boxes.per_tracklet) is not None:
        images, gone = _best(images, table, micros, count)
        left_out["(box of a tracklet that has larger ones)"] += gone
    return _Part(images, rejects, left_out)


def _best(
    images: pa.Table, table: pa.Table, micros: np.ndarray, count: int
) -> tuple[pa.Table, int]:
    """The boxes that compete for the slots of their tracklets, and how many are left out."""
    codes = images["tracklet"].combine_chunks().dictionary_encode().indices.fill_null(-1)
    area = pc.multiply(table["width"], table["height"]).to_numpy()
    run = images["run"].to_numpy()
    slot = choosing.slots(codes.to_numpy().astype(np.int64), micros, area, run, count)
    images = images.drop_columns(["slot"]).append_column(
        BOXES_SCHEMA.field("slot"), pa.array(slot, mask=slot < 0)
    )
    kept = slot != -1
    return images.filter(pa.array(kept)), int((~kept).sum())


def _list_picture(entry: Entry, settings: _Settings, size: int, mtime: datetime | None) -> _Part:
    labels = settings.layout.parse(entry.file)
    boxes = _read_all(entry, settings)
    table, left_out = _together(boxes, settings, None, labels)
    name = _named(entry.file, table, with_frame=False)
    bad = _faults(table, np.ones(len(table), bool), None, 1)
    rejects = [(name[row], size, mtime, *fault) for row, fault in sorted(bad.items())]
    good = np.setdiff1d(np.arange(len(table)), list(bad)).astype(np.int64)
    table = table.take(pa.array(good))
    captured = pa.array([labels.captured_at] * len(table), pa.timestamp("us", "UTC"))
    frame = labels.frame
    columns = places.of_picture(len(table), size) | {
        "path": pa.array([name[row] for row in good], pa.string()),
        "mtime": pa.array([mtime] * len(table), pa.timestamp("us", "UTC")),
        "identity": table["identity"],
        "camera": table["camera"],
        "captured_at": captured,
        "frame": pa.array([frame] * len(table), pa.int64()),
        "tracklet": table["track"],
    }
    return _Part(_boxes(columns, len(table)), rejects, left_out)


def _read_all(entry: Entry, settings: _Settings) -> list[tuple[BoxSource, Boxes]]:
    """Read the boxes of every source of an entry that belong to its file."""
    found = []
    for source in entry.sources:
        if source.boxes is not None:
            found.append((source, source.boxes))
            continue
        path = source.path
        filesystem, there = reach_file(settings.root, entry.file)
        if path is None:
            folder, _, name = there.rpartition("/")
            beside = {posixpath.basename(each.rstrip("/")) for each in filesystem.ls(folder, False)}
            path = box_files.beside(name, beside)
            if path is None:
                continue
            there = f"{folder}/{path}"
        else:
            filesystem, there = reach_file(settings.root, path)
        boxes = _existing(filesystem, there, f"{settings.root}/{entry.file}")
        own = pc.is_in(
            boxes.table["file"],
            value_set=pa.array([entry.file, posixpath.basename(entry.file), None], pa.string()),
        )
        found.append((source, boxes._replace(table=boxes.table.filter(own))))
    return found


def _existing(filesystem: AbstractFileSystem, path: str, video: str) -> Boxes:
    if not filesystem.exists(path):
        raise InputError(f"{video}: there is no box file {path}")
    return box_files.read_boxes(filesystem, path)


def _together(
    found: Iterable[tuple[BoxSource, Boxes]],
    settings: _Settings,
    size: tuple[int, int] | None,
    labels: NameLabels,
) -> tuple[pa.Table, Counter[str]]:
    """The selected boxes of all sources, in pixels, with camera and identity."""
    tables = []
    for source, boxes in found:
        table = boxes.table
        if boxes.relative and size is not None:
            for column, by in zip(("x", "y", "width", "height"), (*size, *size), strict=True):
                scaled = pc.multiply(table[column], float(by))
                table = table.set_column(table.schema.get_field_index(column), column, scaled)
        camera = source.camera or labels.camera
        cameras = [camera_name(each or "") or camera for each in table["camera"].to_pylist()]
        place = table.schema.get_field_index("camera")
        table = table.set_column(place, "camera", pa.array(cameras, pa.string()))
        tables.append(table)
    together, left_out = chosen(pa.concat_tables(tables), settings.boxes)
    identity = together["identity"]
    if settings.labels.first_identity == 0:
        identity = pc.if_else(pc.greater_equal(identity, 0), pc.add(identity, 1), identity)
    if labels.identity is not None:
        identity = pc.fill_null(identity, labels.identity)
    place = together.schema.get_field_index("identity")
    return together.set_column(place, "identity", identity), left_out


def _named(file: str, table: pa.Table, *, with_frame: bool) -> list[str]:
    """The name of each box; the second of two equal ones gets a number."""
    seen = Counter[tuple[Any, ...]]()
    found = []
    columns = [table[name].to_pylist() for name in ("frame", "x", "y", "width", "height")]
    for frame, *numbers in zip(*columns, strict=True):
        box = names.Box(*numbers)
        name = names.box_name(file, frame if with_frame else None, box)
        seen[name,] += 1
        if seen[name,] > 1:
            name = names.box_name(file, frame if with_frame else None, box, seen[name,])
        found.append(name)
    return found


def _faults(
    table: pa.Table, there: np.ndarray, size: tuple[int, int] | None, frames: int
) -> dict[int, tuple[str, str]]:
    """Why some of the boxes cannot become rows: reason and detail by place."""
    bad: dict[int, tuple[str, str]] = {}
    columns = [table[name].to_pylist() for name in ("frame", "x", "y", "width", "height")]
    for row, (frame, *numbers) in enumerate(zip(*columns, strict=True)):
        box = names.Box(*numbers)
        if not there[row]:
            bad[row] = ("no-frame", f"the video has {frames} frames, and this is {frame} from 0")
        elif box.width <= 0 or box.height <= 0:
            bad[row] = ("no-area", f"the box is {box.width:g} x {box.height:g} pixels")
        elif size is not None and box.within(*size) is None:
            extent = f"{size[0]} x {size[1]} pixels"
            bad[row] = ("no-area", f"nothing of the box is inside the {extent}")
    return bad


def _times(started: datetime | None, micros: np.ndarray) -> pa.Array:
    if started is None:
        return pa.nulls(len(micros), pa.timestamp("us", "UTC"))
    first = (started - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return pa.array(micros + first).cast(pa.timestamp("us", "UTC"))
