"""Cut the crops of a work unit's boxes, and decode as few frames as possible."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

import av
import numpy as np
import pyarrow as pa
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.archive.decoding.images import Stretch, decode
from pipeline.archive.faults import Rejected, check_pixels
from pipeline.archive.limits import MAX_BYTES, MAX_PIXELS
from pipeline.archive.listing.reading import read_image
from pipeline.archive.video import names
from pipeline.archive.video.container import SeekError, decoded, opened, packets
from pipeline.archive.video.crops import Cutter

_log = logging.getLogger(__name__)

Span = tuple[int, int]
"""Packets from a first to a last one, inclusive."""


class Limits(NamedTuple):
    """The largest allowed pictures, and how those with more than 8 bits are read."""

    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    stretch: Stretch | None = None


class CutBox(NamedTuple):
    """The result of the box at `place` among a unit's members: pixels, or the reason why there are
    none.

    `data` are the bytes of a picture with boxes; None for a video.
    """

    place: int
    pixels: NDArray[np.uint8] | Rejected
    data: bytes | None = None


class _Member(NamedTuple):
    place: int
    file: str
    box: names.Box
    packet: int
    """-1 in a separate picture."""
    run: int
    seek: int


def cut_boxes(
    root: str, members: pa.Table, *, threads: int = 1, limits: Limits = Limits()
) -> Iterator[CutBox]:
    """Cut the boxes in `members` (rows of `BOXES_SCHEMA`) of a unit, in any order.

    Every frame is decoded at most once. Frames before a run's first box and after its last box are
    not decoded. Memory does not depend on the length of a video.
    """
    columns = [members[name].to_pylist() for name in ("path", "packet", "run", "seek")]
    found = []
    for place, (path, *where) in enumerate(zip(*columns, strict=True)):
        name = names.box_of_name(path)
        if name is None:
            yield CutBox(place, Rejected("bad-box", "its name is not that of a box"))
            continue
        found.append(_Member(place, name.file, name.box, *where))
    for file, group in groupby(found, key=lambda member: member.file):
        boxes = list(group)
        if boxes[0].packet < 0:
            yield from _of_picture(root, file, boxes, limits)
        else:
            yield from _of_video(root, file, boxes, threads, limits)


def _of_picture(root: str, file: str, members: list[_Member], limits: Limits) -> Iterator[CutBox]:
    try:
        data = read_image(root, file, max_bytes=limits.max_bytes)
        pixels = decode(data, max_pixels=limits.max_pixels, stretch=limits.stretch)
    except Rejected as error:
        yield from (CutBox(member.place, error) for member in members)
        return
    height, width = pixels.shape[:2]
    for member in members:
        place = member.box.within(width, height)
        if place is None:
            yield CutBox(member.place, no_area(width, height))
            continue
        left, top, right, bottom = place
        yield CutBox(member.place, np.ascontiguousarray(pixels[top:bottom, left:right]), data)


def _of_video(
    root: str, file: str, members: list[_Member], threads: int, limits: Limits
) -> Iterator[CutBox]:
    wanted: dict[int, list[_Member]] = defaultdict(list)
    starts: dict[int, int] = {}
    for member in members:
        wanted[member.packet].append(member)
        starts[member.packet] = member.run
    spans = _spans((starts[packet], packet) for packet in wanted)
    seeks = {member.run: member.seek for member in members}
    cutter = Cutter()
    try:
        try:
            frames = _decoded(root, file, threads, spans, seeks[spans[0][0]], wanted)
            for frame in frames:
                yield from _cut(cutter, frame, wanted.pop(frame.pts or 0, []), limits)
        except SeekError:
            for frame in _decoded(root, file, threads, spans, -1, wanted):
                yield from _cut(cutter, frame, wanted.pop(frame.pts or 0, []), limits)
        fault = Rejected("damaged-frame", "its frame cannot be decoded")
    except Rejected as error:
        fault = error
    for lost in wanted.values():
        yield from (CutBox(member.place, fault) for member in lost)


def _decoded(
    root: str,
    file: str,
    threads: int,
    spans: list[Span],
    seek: int,
    wanted: dict[int, list[_Member]],
) -> Iterator[VideoFrame]:
    """Yield the frames of a video that `_frames` yields; raise SeekError before the first of
    them.
    """
    with opened(root, file) as (container, stream):
        codec = stream.codec_context
        codec.thread_count, codec.thread_type = threads, "AUTO"
        yield from _frames(stream, packets(container, stream, spans[0][0], seek), spans, wanted)


def _cut(
    cutter: Cutter, frame: VideoFrame, members: list[_Member], limits: Limits
) -> Iterator[CutBox]:
    """The boxes of one frame."""
    turned = frame.rotation % 180 != 0
    width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
    fault = None
    if frame.is_corrupt:
        fault = Rejected("damaged-frame", "its frame cannot be decoded without errors")
    elif members:
        try:
            check_pixels(height, width, limits.max_pixels)
        except Rejected as error:
            fault = error
    places = [member.box.within(width, height) for member in members]
    inside = [place for place in places if place is not None]
    cuts = iter(()) if fault else cutter.cut(frame, inside)
    for member, place in zip(members, places, strict=True):
        if fault or place is None:
            yield CutBox(member.place, fault or no_area(width, height))
        else:
            yield CutBox(member.place, next(cuts))


def no_area(width: int, height: int) -> Rejected:
    """Why a box outside a picture of that size, or without extent, does not become a row."""
    return Rejected("no-area", f"nothing of the box is inside the {width} x {height} pixels")


def _spans(parts: Iterable[Span]) -> list[Span]:
    """The packets to decode, in order: every wanted one, and those back to its run's first.

    >>> _spans([(0, 3), (0, 7), (40, 45), (46, 50)])
    [(0, 7), (40, 50)]
    """
    joined: list[list[int]] = []
    for start, end in sorted(parts):
        if joined and start <= joined[-1][1] + 1:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return [(start, end) for start, end in joined]


def _frames(
    stream: VideoStream,
    numbered: Iterator[tuple[int, Packet]],
    spans: list[Span],
    wanted: dict[int, list[_Member]],
) -> Iterator[VideoFrame]:
    """Yield the frames of the wanted packets; each span is decoded separately."""
    codec = stream.codec_context
    waiting = iter(spans)
    start, end = next(waiting)
    is_open = False
    try:
        for number, packet in numbered:
            if is_open and number > end:
                yield from decoded(stream, None)
                codec.flush_buffers()
                is_open = False
            while number > end:
                if (following := next(waiting, None)) is None:
                    return
                start, end = following
            if number < start:
                continue
            is_open = True
            # A frame that no other frame refers to and nobody needs is not decoded.
            codec.skip_frame = "DEFAULT" if number in wanted else "NONREF"
            yield from decoded(stream, packet, number)
    except (av.FFmpegError, OSError) as error:
        _log.debug("%s", error)  # the boxes after it are rejects
    if is_open:
        yield from decoded(stream, None)
