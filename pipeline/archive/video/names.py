"""The names of rows that are boxes: `VIDEO#f=FRAME&b=X,Y,WIDTH,HEIGHT`."""

import re
from typing import NamedTuple

_NAME = re.compile(r"(.+)#(?:f=(\d+)&)?b=([-\d.,e]+)(?:&n=\d+)?", re.DOTALL)


class Box(NamedTuple):
    """A rectangle in pixels of the upright picture; its corner counts from 0."""

    x: float
    y: float
    width: float
    height: float

    def within(self, width: int, height: int) -> tuple[int, int, int, int] | None:
        """The part of the box inside a picture: first and last (exclusive) column and row.

        The numbers are whole pixels; None if nothing is inside.

        >>> Box(-3, 2, 10, 4).within(640, 480), Box(640, 2, 10, 4).within(640, 480)
        ((0, 2, 7, 6), None)
        """
        left, top = max(0, _whole(self.x)), max(0, _whole(self.y))
        right = min(width, _whole(self.x + self.width))
        bottom = min(height, _whole(self.y + self.height))
        return (left, top, right, bottom) if left < right and top < bottom else None


class BoxName(NamedTuple):
    """The contents of a row's name: the file, the frame from 0 (None in a picture), and the box."""

    file: str
    frame: int | None
    box: Box


def box_name(file: str, frame: int | None, box: Box, number: int = 1) -> str:
    """The name of a box; `number` distinguishes boxes of one frame with the same coordinates.

    >>> box_name("a.mp4", 7, Box(1, 2.50, 30, 60)), box_name("a.jpg", None, Box(1, 2, 3, 4), 2)
    ('a.mp4#f=7&b=1,2.5,30,60', 'a.jpg#b=1,2,3,4&n=2')
    """
    where = "" if frame is None else f"f={frame}&"
    again = "" if number == 1 else f"&n={number}"
    return f"{file}#{where}b={','.join(map(_shown, box))}{again}"


def box_of_name(path: str) -> BoxName | None:
    """The parts of a box's name; None for any other path.

    >>> box_of_name("a.mp4#f=7&b=1,2.5,30,60")
    BoxName(file='a.mp4', frame=7, box=Box(x=1.0, y=2.5, width=30.0, height=60.0))
    >>> box_of_name("a.mp4#f=7&b=1,2"), box_of_name("monday.tar#7.jpg")
    (None, None)
    """
    found = _NAME.fullmatch(path) if "#" in path else None
    if found is None:
        return None
    try:
        box = Box(*map(float, found[3].split(",")))
    except (TypeError, ValueError):
        return None
    return BoxName(found[1], None if found[2] is None else int(found[2]), box)


def tracklet(file: str, camera: str | None, track: str) -> str:
    """The name of a tracklet of a video: each video, and each camera in it, numbers its tracks from
    the start.

    >>> tracklet("a.mp4", None, "7"), tracklet("a.mp4", "2", "7")
    ('a.mp4#t=7', 'a.mp4#c=2&t=7')
    """
    where = "" if camera is None else f"c={camera}&"
    return f"{file}#{where}t={track}"


def track_of(file: str, camera: str | None, name: str) -> str:
    """The track that `tracklet` made this name from; a name of another form is itself a track.

    >>> track_of("a.mp4", "2", "a.mp4#c=2&t=7"), track_of("a.jpg", None, "7")
    ('7', '7')
    """
    return name.removeprefix(tracklet(file, camera, ""))


def _whole(value: float) -> int:
    return int(value + 0.5) if value >= 0 else -int(0.5 - value)


def _shown(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.2f}".rstrip("0").rstrip(".")
