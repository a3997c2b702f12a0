"""Convert rows of a gallery to labeled boxes on the frames that they were cut from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive.faults import Rejected
from pipeline.archive.listing.reading import is_in_tar
from pipeline.archive.locations import join
from pipeline.archive.video import names
from pipeline.archive.video.names import Box, BoxName
from pipeline.archive.video.sizes import FrameSize, picture_size, video_size
from pipeline.errors import InputError

CLASS = "person"
"""The class of every box, for tools that need a class."""

LABEL_COLUMNS = (
    *("row_id", "path", "identity", "camera", "captured_at", "frame"),
    *("tracklet", "height", "width"),
)
"""Columns of a gallery's rows from which labels are made; `candidate` and `score` may be added."""


class Label(NamedTuple):
    """A box on a frame (from 0; None on a picture), and its known values.

    `track` is the tracklet's name inside the video, and `track_id` its number among all tracklets,
    from 1; both are None without one.
    """

    row_id: int
    frame: int | None
    box: Box
    camera: str | None
    track: str | None
    track_id: int | None
    identity: int | None
    candidate: int | None
    score: float | None
    captured_at: Any

    @property
    def attributes(self) -> dict[str, Any]:
        """The known values of the box apart from its place, by name."""
        told = {
            "identity": self.identity,
            "candidate": self.candidate,
            "score": self.score,
            "camera": self.camera,
            "track": self.track,
            "row_id": self.row_id,
        }
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True)
class LabeledFile:
    """A video or picture below `root`, its frame size, and its labels in order of frame and row id.

    `is_crop` means that the file is the whole crop: its only label covers the whole picture.
    """

    root: str
    file: str
    size: FrameSize
    labels: tuple[Label, ...]
    is_crop: bool = False

    @property
    def is_video(self) -> bool:
        """Whether the labels are on frames of a video."""
        return self.labels[0].frame is not None and not self.is_crop

    @property
    def location(self) -> str:
        """Where the file lies: its path, or its URL."""
        return join(self.root, self.file)

    def by_frame(self) -> Iterator[tuple[int, list[Label]]]:
        """Yield the labels of each frame that has any; the labels of a picture are those of its
        frame 0.
        """
        start = 0
        for end in range(1, len(self.labels) + 1):
            if end == len(self.labels) or self.labels[end].frame != self.labels[start].frame:
                yield self.labels[start].frame or 0, list(self.labels[start:end])
                start = end


def labeled_files(root: str, rows: pa.Table) -> Iterator[LabeledFile]:
    """Yield the rows (`LABEL_COLUMNS`) of a gallery with source `root` as labels, one file at a
    time.

    Videos and pictures come in the order of their names. Each one with boxes is opened to read its
    frame size. Raise InputError if one cannot be opened, and for an image in a tar, which other
    tools do not open.
    """
    files = [
        box.file if (box := names.box_of_name(path)) else path for path in rows["path"].to_pylist()
    ]
    rows = rows.append_column("file", pa.array(files, pa.string()))
    rows = rows.sort_by([("file", "ascending"), ("row_id", "ascending")])
    tracklets = rows["tracklet"].drop_null().unique().sort().to_pylist()
    numbers = {name: number for number, name in enumerate(tracklets, start=1)}
    start = 0
    for end in pc.run_end_encode(rows["file"].combine_chunks()).run_ends.to_pylist():
        yield _file(root, rows[start:end].to_pylist(), numbers)
        start = end


def _file(root: str, rows: list[dict[str, Any]], numbers: dict[str, int]) -> LabeledFile:
    file, boxes = rows[0]["file"], [names.box_of_name(row["path"]) for row in rows]
    if is_in_tar(file):
        raise InputError(
            f"{join(root, file)} lies in a tar, and other tools do not open tars: unpack it,"
            " extract the folder into a gallery, and export that"
        )
    is_crop = boxes == [None]
    if is_crop and rows[0]["width"] and rows[0]["height"]:
        size = FrameSize(rows[0]["width"], rows[0]["height"])
    else:
        size = _size(root, file, is_video=any(box and box.frame is not None for box in boxes))
    whole = BoxName(file, None, Box(0, 0, size.width, size.height))
    labels = [_label(row, box or whole, numbers) for row, box in zip(rows, boxes, strict=True)]
    labels.sort(key=lambda label: (label.frame or 0, label.row_id))
    return LabeledFile(root, file, size, tuple(labels), is_crop)


def _label(row: dict[str, Any], name: BoxName, numbers: dict[str, int]) -> Label:
    tracklet = row["tracklet"]
    return Label(
        row_id=row["row_id"],
        frame=name.frame,
        box=name.box,
        camera=row["camera"],
        track=tracklet and names.track_of(name.file, row["camera"], tracklet),
        track_id=numbers.get(tracklet),
        identity=row["identity"],
        candidate=row.get("candidate"),
        score=row.get("score"),
        captured_at=row["captured_at"],
    )


def _size(root: str, file: str, *, is_video: bool) -> FrameSize:
    try:
        return (video_size if is_video else picture_size)(root, file)
    except Rejected as error:
        raise InputError(
            f"{join(root, file)}: {error.detail}, and labels need the size of its frames: bring it"
            " back, or erase its rows first"
        ) from error
