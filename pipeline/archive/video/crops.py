"""Cut boxes from a decoded frame; only their pixels are converted to RGB."""

from collections.abc import Iterable, Iterator

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

Rectangle = tuple[int, int, int, int]
"""First and last (exclusive) column and row."""

_PLANAR = ("yuv420p", "yuvj420p")
"""Formats in which a part converts to the same pixels as the whole, to the bit."""
_EACH = 60_000
"""A part costs about as much as converting this many more pixels."""


class Cutter:
    """Cuts boxes out of frames; one for each thread."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def cut(self, frame: VideoFrame, places: Iterable[Rectangle]) -> Iterator[NDArray[np.uint8]]:
        """Yield the pixels uint8 `[H, W, 3]` (RGB) at each place of the upright picture.

        A frame of two fields shows two moments, so the lines of the second field are computed from
        those of the first.
        """
        turns = round(frame.rotation / 90) % 4
        stored = [_as_stored(place, frame.width, frame.height, turns) for place in places]
        for left, top, right, bottom in stored if self._in_parts(frame, stored) else []:
            x, y = left & ~1, top & ~1
            part = self._part(frame, (x, y, right + (right & 1), bottom + (bottom & 1)))
            cut = part[top - y : bottom - y, left - x : right - x]
            yield _upright(_one_field(cut, top) if frame.interlaced_frame else cut, turns)
        if not self._in_parts(frame, stored):
            whole = self._rgb(frame)
            for left, top, right, bottom in stored:
                cut = whole[top:bottom, left:right]
                yield _upright(_one_field(cut, top) if frame.interlaced_frame else cut, turns)

    @staticmethod
    def _in_parts(frame: VideoFrame, places: list[Rectangle]) -> bool:
        if frame.format.name not in _PLANAR or frame.width % 2 or frame.height % 2:
            return False
        pixels = sum((right - left) * (bottom - top) for left, top, right, bottom in places)
        return pixels + _EACH * len(places) < frame.width * frame.height

    def _part(self, frame: VideoFrame, place: Rectangle) -> NDArray[np.uint8]:
        left, top, right, bottom = place
        width, height = right - left, bottom - top
        packed = np.empty(width * height * 3 // 2, np.uint8)
        start = 0
        for plane, by in zip(frame.planes, (1, 2, 2), strict=True):
            lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
            part = lines[top // by : bottom // by, left // by : right // by]
            packed[start : start + part.size].reshape(part.shape)[:] = part
            start += part.size
        small = VideoFrame.from_ndarray(packed.reshape(-1, width), format=frame.format.name)
        small.colorspace, small.color_range = frame.colorspace, frame.color_range
        return self._rgb(small)

    def _rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        rgb = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return rgb.astype(np.uint8, copy=False)


def _as_stored(place: Rectangle, width: int, height: int, turns: int) -> Rectangle:
    """The place in the stored frame that `turns` quarter turns (counterclockwise) move to `place`.

    >>> _as_stored((0, 0, 10, 20), 640, 480, 1)  # its top left corner is the stored top right one
    (620, 0, 640, 10)
    """
    left, top, right, bottom = place
    match turns:
        case 1:
            return width - bottom, left, width - top, right
        case 2:
            return width - right, height - bottom, width - left, height - top
        case 3:
            return top, height - right, bottom, height - left
    return place


def _upright(pixels: NDArray[np.uint8], turns: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _one_field(pixels: NDArray[np.uint8], top: int) -> NDArray[np.uint8]:
    """The picture from its even lines alone: each odd line is the mean of its neighbors."""
    out = pixels.copy()
    odd = np.arange(1 - top % 2, len(out), 2)
    above, below = np.maximum(odd - 1, 0), np.minimum(odd + 1, len(out) - 1)
    if len(out) > 1:
        above[odd == 0], below[odd == len(out) - 1] = 1, len(out) - 2
        out[odd] = (out[above].astype(np.uint16) + out[below] + 1) // 2
    return out
