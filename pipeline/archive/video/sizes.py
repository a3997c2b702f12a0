"""How large the frames of a video or a picture are, without reading all of it."""

from typing import NamedTuple

from pipeline.archive.decoding.images import upright_size
from pipeline.archive.listing.reading import read_image


class FrameSize(NamedTuple):
    """Width and height of upright frames in pixels; of a video also frames a second, and how many
    frames its container tells (0 where it does not).
    """

    width: int
    height: int
    rate: float = 0.0
    frames: int = 0


def video_size(root: str, file: str) -> FrameSize:
    """The size of the video `file` below `root`: its first frame is decoded.

    Raises ReadError where it cannot be opened, or has no frame.
    """
    from pipeline.archive.video.container import opened  # it loads PyAV
    from pipeline.archive.video.index import first_frame_size

    with opened(root, file) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or 25
        frames = stream.frames
        return FrameSize(*first_frame_size(container, stream), float(rate), frames)


def picture_size(root: str, file: str) -> FrameSize:
    """The size of the picture `file` below `root`, by its header.

    Raises Rejected where it cannot be read, or is none.
    """
    return FrameSize(*upright_size(read_image(root, file)))
