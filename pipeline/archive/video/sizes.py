"""Find the frame size of a video or a picture without reading all of it."""

from typing import NamedTuple

from pipeline.archive.decoding.images import upright_size
from pipeline.archive.listing.reading import read_image


class FrameSize(NamedTuple):
    """Width and height of upright frames in pixels.

    A video also has its frames per second, and the number of frames that its container states (0 if
    it does not).
    """

    width: int
    height: int
    rate: float = 0.0
    frames: int = 0


def video_size(root: str, file: str) -> FrameSize:
    """The frame size of the video `file` below `root`; its first frame is decoded.

    Raise ReadError if it cannot be opened, or has no frame.
    """
    from pipeline.archive.video.container import opened  # it loads PyAV
    from pipeline.archive.video.index import first_frame_size

    with opened(root, file) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or 25
        frames = stream.frames
        return FrameSize(*first_frame_size(container, stream), float(rate), frames)


def picture_size(root: str, file: str) -> FrameSize:
    """The size of the picture `file` below `root`, from its header.

    Raise Rejected if it cannot be read, or is not a picture.
    """
    return FrameSize(*upright_size(read_image(root, file)))
