"""Open a video with PyAV, and number its packets."""

from collections.abc import Iterator
from contextlib import contextmanager

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.archive.faults import ReadError
from pipeline.archive.locations import is_local, reach_file

SUFFIXES = frozenset(
    f".{name}"
    for names in (
        "mp4 m4v mov mkv webm avi mpg mpeg m2v ts mts m2ts mjpeg mjpg wmv asf flv ogv 3gp 3g2",
        "mxf vob dav h264 264 hevc h265 265 ivf",
    )
    for name in names.split()
)
"""A file with one of these suffixes, in either case, counts as a video unless its bytes
disagree.
"""


# A playlist (HLS, DASH, FFmpeg's concat) under the name of a video could open any other file.
_CONTAINERS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,mjpeg,jpeg_pipe,asf,flv,ogg,mxf,dhav,h264,hevc,ivf"
)


class SeekError(Exception):
    """Seeking leads to another place, so the file must be read from its start."""


@contextmanager
def opened(root: str, path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the container at `path` below `root`, and its first video stream.

    Raise ReadError if there is none, or if it cannot be read.
    """
    filesystem, there = reach_file(root, path)
    try:
        source = there if is_local(filesystem) else filesystem.open(there, "rb")
        container = av.open(
            source, metadata_errors="replace", options={"format_whitelist": _CONTAINERS}
        )
    except FileNotFoundError as error:
        raise ReadError("missing", "the file does not exist") from error
    except (OSError, ValueError) as error:  # FFmpeg's errors are one of the two
        raise ReadError(
            "unreadable-video", f"it cannot be opened: {ffmpeg_reason(error)}"
        ) from error
    with container:
        if not container.streams.video:
            raise ReadError("unreadable-video", "it holds no stream of pictures")
        yield container, container.streams.video[0]


def packets(
    container: InputContainer, stream: VideoStream, start: int = 0, seek: int = -1
) -> Iterator[tuple[int, Packet]]:
    """Yield the stream's packets that have data, with their numbers in the file, from `start`.

    `seek` is the time stamp of packet `start`, a key frame; if it is -1, all packets before it are
    read. Raise `SeekError` if seeking does not lead there. If damage makes everything after it
    unreadable, the packets end with `av.FFmpegError`.
    """
    if seek >= 0 and start:
        container.seek(seek, stream=stream)
        number = None
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if number is None:
                if packet.pts == seek and packet.is_keyframe:
                    number = start
                elif packet.dts is not None and packet.dts > seek:
                    break
                else:
                    continue
            yield number, packet
            number += 1
        if number is None:
            raise SeekError(f"no packet has the time stamp {seek}")
        return
    number = 0
    for packet in container.demux(stream):
        if packet.size:
            if number >= start:
                yield number, packet
            number += 1


def decoded(
    stream: VideoStream, packet: Packet | None, number: int | None = None
) -> list[VideoFrame]:
    """Decode a packet; return the frames that the decoder outputs. None takes out the last frames.

    A `number` replaces the packet's time stamp, and therefore that of its frame. A damaged packet
    gives no frames.
    """
    try:
        if packet is not None and number is not None:
            packet.pts = packet.dts = number
        return list(stream.codec_context.decode(packet))
    except av.FFmpegError:
        return []


def ffmpeg_reason(error: Exception) -> str:
    """FFmpeg's message, without the file's name and the number."""
    return str(getattr(error, "strerror", None) or error)
