"""Read a video's packets, without decoding, to find its frames, times and key frames."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.archive.faults import ReadError
from pipeline.archive.video.container import decoded, ffmpeg_reason, opened, packets

LEAST_RUN = 32
"""The least number of frames in a run: if every frame is a key frame, a run would have only one."""

_PROBED = 250
_ORDERED_BY_DECODING = frozenset(("avi", "h264", "hevc", "mpegvideo", "m4v", "ivf", "obu"))
"""Containers whose time stamps do not give the display order if a codec reorders frames."""
_SEEKABLE = frozenset(("mov", "matroska", "avi", "mpegts", "flv", "mxf"))
"""Containers in which seeking leads to the requested packet, with its time stamp."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameRuns:
    """The runs of a video `[R]`: frames from one key frame up to the next that begins a run.

    A run can be decoded from its first packet on, whose time stamp is `seek` (-1 if only reading
    from the start leads there). Its bytes and their hash show whether it has changed.
    """

    packet: NDArray[np.int64]
    seek: NDArray[np.int64]
    size: NDArray[np.int64]
    content_hash: list[bytes]


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a video `[F]` in display order, and its runs."""

    width: int
    height: int
    """Of the upright picture."""
    micros: NDArray[np.int64]
    """Microseconds since the first frame."""
    packet: NDArray[np.int64]
    """The number of the packet in the file for each frame."""
    run: NDArray[np.int64]
    """The place of each frame's run in `runs`."""
    runs: FrameRuns
    started_at: datetime | None
    """The time of recording, from the container."""
    damage: str | None
    """Why nothing was found after the last frame, if the file does not end there."""


@dataclass
class _Packets:
    """The results of a pass over the packets, by packet."""

    pts: list[int | None]
    key: list[bool]
    shown: list[bool]
    size: list[int]
    digest: list[bytes]
    damage: str | None = None
    frame: tuple[int, int] | None = None
    """Width and height of the first frame that can be decoded, upright."""


def index_video(root: str, path: str) -> VideoIndex:
    """Read the packets of a video, and decode one frame for its size.

    Frames are numbered in display order. If the time stamps do not give this order (some AVI files,
    bare streams), the whole video is decoded once. Raise ReadError for a video without a frame.
    """
    with opened(root, path) as (container, stream):
        found = _pass_over(container, stream)
        started = _started_at(container, stream)
        rate = stream.average_rate or stream.guessed_rate or 25
        tick = float(stream.time_base) if stream.time_base else 1 / float(rate)
        name = container.format.name
        reorders = stream.codec_context.has_b_frames
    trusted = _is_trusted(found, name, reorders)
    if found.frame is None:
        raise _no_frame()
    width, height = found.frame
    if trusted:
        stamps = np.array(found.pts, np.int64)
        shown = np.flatnonzero(found.shown)
        order = shown[np.argsort(stamps[shown], kind="stable")]
        micros = np.rint((stamps[order] - stamps[order][:1]) * (tick * 1e6)).astype(np.int64)
    else:
        with opened(root, path) as (container, stream):
            order = np.array(list(_in_order(container, stream)), np.int64)
        stamps = np.full(len(found.pts), -1)
        stamps[order] = np.arange(len(order))
        micros = np.rint(np.arange(len(order)) * (1e6 / float(rate))).astype(np.int64)
    if not len(order):
        raise ReadError("unreadable-video", f"it has no frame: {found.damage or 'none is there'}")
    cuts = _cuts(stamps, np.array(found.key), np.array(found.shown))
    run = np.searchsorted(stamps[cuts], stamps[order], side="right") - 1
    run[run < 0] = 0
    cuts[0] = 0
    seekable = trusted and not _SEEKABLE.isdisjoint(name.split(","))
    return VideoIndex(
        width, height, micros, order, run, _runs(found, cuts, seekable), started, found.damage
    )


def _pass_over(container: InputContainer, stream: VideoStream) -> _Packets:
    found = _Packets([], [], [], [], [])
    is_vp8 = stream.codec_context.name == "vp8"
    try:
        for number, packet in packets(container, stream):
            data = bytes(packet)
            if found.frame is None and number < _PROBED:
                found.frame = _size(decoded(stream, packet))
            found.pts.append(packet.pts)
            found.key.append(packet.is_keyframe)
            found.shown.append(not packet.is_discard and not (is_vp8 and not data[0] & 0x10))
            found.size.append(len(data))
            found.digest.append(hashlib.blake2b(data, digest_size=16).digest())
    except (av.FFmpegError, OSError) as error:
        found.damage = ffmpeg_reason(error)
    found.frame = found.frame or _size(decoded(stream, None))
    return found


def _is_trusted(found: _Packets, name: str, reorders: bool) -> bool:
    """Whether time stamps give the display order of frames."""
    stamps = [pts for pts, shown in zip(found.pts, found.shown, strict=True) if shown]
    if any(pts is None for pts in found.pts) or len(set(stamps)) < len(stamps):
        return False
    rising = bool((np.diff(np.array(stamps, np.int64)) > 0).all())
    return not (reorders and rising and not _ORDERED_BY_DECODING.isdisjoint(name.split(",")))


def _in_order(container: InputContainer, stream: VideoStream) -> Iterator[int]:
    """Yield the packets of the frames in the order in which the decoder outputs them."""
    stream.thread_type = "AUTO"
    try:
        for number, packet in packets(container, stream):
            yield from (int(frame.pts or 0) for frame in decoded(stream, packet, number))
    except (av.FFmpegError, OSError) as error:
        _log.debug("%s", error)  # the pass over the packets has reported it
    yield from (int(frame.pts or 0) for frame in decoded(stream, None))


def first_frame_size(container: InputContainer, stream: VideoStream) -> tuple[int, int]:
    """Width and height of the first frame that can be decoded, upright.

    Raise ReadError where none of the first ones can be.
    """
    for _, packet in islice(packets(container, stream), _PROBED):
        if found := _size(decoded(stream, packet)):
            return found
    if found := _size(decoded(stream, None)):
        return found
    raise _no_frame()


def _size(frames: list[VideoFrame]) -> tuple[int, int] | None:
    """Width and height of the first frame, upright; None without one."""
    if not frames:
        return None
    turned = frames[0].rotation % 180 != 0
    width, height = frames[0].width, frames[0].height
    return (height, width) if turned else (width, height)


def _no_frame() -> ReadError:
    return ReadError("unreadable-video", f"none of its first {_PROBED} frames can be decoded")


def _cuts(
    stamps: NDArray[np.int64], key: NDArray[np.bool_], shown: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The packets at which runs begin: key frames that are shown after all packets before them.

    The first packet always begins a run, so that nothing is left out.
    """
    before = np.maximum.accumulate(np.where(shown, stamps, np.iinfo(np.int64).min))
    later = np.ones(len(stamps), bool)
    later[1:] = stamps[1:] > before[:-1]
    count = np.cumsum(shown)
    cuts = [0]
    for place in np.flatnonzero(key & shown & later):
        if count[place] - count[cuts[-1]] >= LEAST_RUN:
            cuts.append(int(place))
    first = np.flatnonzero(shown)
    if len(first):
        cuts[0] = int(first[0])
    return np.array(cuts, np.int64)


def _runs(found: _Packets, cuts: NDArray[np.int64], seekable: bool) -> FrameRuns:
    ends = [*cuts[1:].tolist(), len(found.size)]
    spans = list(zip(cuts.tolist(), ends, strict=True))
    seek = [found.pts[start] if seekable and start else -1 for start, _ in spans]
    return FrameRuns(
        packet=cuts,
        seek=np.array([-1 if each is None else each for each in seek], np.int64),
        size=np.array([sum(found.size[start:end]) for start, end in spans], np.int64),
        content_hash=[
            hashlib.blake2b(b"".join(found.digest[start:end]), digest_size=16).digest()
            for start, end in spans
        ],
    )


def _started_at(container: InputContainer, stream: VideoStream) -> datetime | None:
    """The time of recording that the container states."""
    for about in (container.metadata, stream.metadata):
        lower = {key.lower(): value for key, value in about.items()}
        for key in ("com.apple.quicktime.creationdate", "creation_time", "date"):
            try:
                found = datetime.fromisoformat(lower.get(key, "").strip())
            except ValueError:
                continue
            found = found if found.tzinfo else found.replace(tzinfo=UTC)
            if found.year > 1970:  # cameras without a clock write the epoch
                return found.astimezone(UTC)
    return None
