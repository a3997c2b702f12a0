"""The positions of boxes in videos: the packets of their frames, and the runs in which those are
decoded.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.archive.manifest import MANIFEST_SCHEMA

if TYPE_CHECKING:  # it loads PyAV
    from pipeline.archive.video.index import VideoIndex

MOST_BOXES = 16_384
"""The most boxes in a unit."""

BOXES_SCHEMA = pa.schema(
    [
        *MANIFEST_SCHEMA,
        pa.field("packet", pa.int64(), nullable=False),
        pa.field("run", pa.int64(), nullable=False),
        pa.field("seek", pa.int64(), nullable=False),
        pa.field("content_hash", pa.binary()),
        pa.field("slot", pa.int64()),
    ]
)
"""A manifest of boxes: `path` names the box; `size` and `content_hash` are those of the run.

`packet` is the number of the frame's packet in the video, `run` that of the run's first packet, and
`seek` its time stamp (-1: reading from the start finds the run). Of the boxes with one `slot`, the
sharpest becomes a row. A separate picture has the packet -1, and no hash before it is read.
"""


def of_video(index: "VideoIndex", frames: NDArray[np.int64]) -> dict[str, pa.Array]:
    """The columns of `BOXES_SCHEMA` that depend on the frames `[N]` of a video."""
    run, runs = index.run[frames], index.runs
    hashes = pa.array(runs.content_hash, pa.binary())
    return {
        "size": pa.array(runs.size[run]),
        "packet": pa.array(index.packet[frames]),
        "run": pa.array(runs.packet[run]),
        "seek": pa.array(runs.seek[run]),
        "content_hash": hashes.take(pa.array(run)),
    }


def of_picture(count: int, size: int) -> dict[str, pa.Array]:
    """The same columns for `count` boxes of one picture of `size` bytes."""
    minus = pa.array(np.full(count, -1))
    return {
        "size": pa.array(np.full(count, size)),
        "packet": minus,
        "run": pa.array(np.zeros(count, np.int64)),
        "seek": minus,
        "content_hash": pa.nulls(count, pa.binary()),
    }


def files_of(boxes: pa.Table) -> pa.ChunkedArray:
    """The video or picture of each box, from its name."""
    return pc.replace_substring_regex(boxes["path"], r"#(?:f=\d+&)?b=[^#]*$", "")


def unit_parts(boxes: pa.Table, unit_size: int, most: int = MOST_BOXES) -> Iterator[pa.Table]:
    """Divide rows of `BOXES_SCHEMA`, in the order of decoding, into parts.

    A part has one video (or pictures) and whole runs, as many as have at most `unit_size` boxes
    together. A run with more boxes is a separate part. A run with more than `most` is divided, so
    that its frames are decoded more than once.
    """
    columns = ["file", "run", "packet", "path"]
    boxes = boxes.append_column("file", files_of(boxes))
    boxes = boxes.sort_by([(name, "ascending") for name in columns]).combine_chunks()
    file = boxes["file"].combine_chunks().dictionary_encode().indices.to_numpy()
    of_video, run = boxes["packet"].to_numpy() >= 0, boxes["run"].to_numpy()
    boxes = boxes.drop_columns(["file"])
    changes = np.diff(file) | np.diff(run)
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), len(boxes)] if len(boxes) else []
    start = 0
    for low, high in pairwise(edges):
        other = of_video[low] and file[low] != file[start]
        if low > start and (high - start > unit_size or other):
            yield from _cut(boxes[start:low], most)
            start = low
    if len(boxes):
        yield from _cut(boxes[start:], most)


def _cut(boxes: pa.Table, most: int) -> Iterator[pa.Table]:
    yield from (boxes[start : start + most] for start in range(0, len(boxes), most))
