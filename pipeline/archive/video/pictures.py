"""Read the pixels of a row, which is an image or a box."""

from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.archive.decoding.images import Stretch, decode
from pipeline.archive.faults import ChangedError, Rejected
from pipeline.archive.limits import MAX_BYTES, MAX_PIXELS
from pipeline.archive.listing.reading import read_image
from pipeline.archive.video import names, places
from pipeline.archive.video.sources import file_facts

if TYPE_CHECKING:  # it loads PyAV
    from pipeline.archive.video.index import VideoIndex

_HASH_BYTES = 16


def read_pixels(
    root: str,
    path: str,
    *,
    max_bytes: int = MAX_BYTES,
    stretch: Stretch | None = None,
    content_hash: bytes | None = None,
) -> NDArray[np.uint8]:
    """Read the image or box at `path` below `root`, uint8 `[H, W, 3]`; raise Rejected if there is
    none.

    For a box of a video, its packets are read once (`remembered_index`), and the frames of one run
    are decoded. With the `content_hash` of a row, raise ChangedError for other bytes than those
    that it was made from.
    """
    name = names.box_of_name(path)
    if name is None:
        data = read_image(root, path, max_bytes=max_bytes)
        _check_hash(content_hash, data)
        return decode(data, stretch=stretch)
    from pipeline.archive.video.decoding import Limits, cut_boxes

    if name.frame is None:
        columns = places.of_picture(1, 0)
    else:
        index = _index(root, name.file, *file_facts(root, name.file))
        if name.frame >= len(index.packet):
            raise Rejected("no-frame", f"the video has {len(index.packet)} frames")
        columns = places.of_video(index, np.array([name.frame]))
        if content_hash not in (None, columns["content_hash"][0].as_py()):
            raise ChangedError
    members = pa.table({"path": [path], **columns})
    (cut,) = cut_boxes(root, members, limits=Limits(MAX_PIXELS, max_bytes, stretch))
    if cut.data is not None:
        _check_hash(content_hash, cut.data)
    if isinstance(cut.pixels, Rejected):
        raise cut.pixels
    return cut.pixels


def _check_hash(content_hash: bytes | None, data: bytes) -> None:
    """Raise Rejected for bytes of another hash (`pipeline.gallery.files.schema.content_hash`)."""
    if content_hash not in (None, blake2b(data, digest_size=_HASH_BYTES).digest()):
        raise ChangedError


@lru_cache(maxsize=16)
def _index(root: str, file: str, size: int, mtime: datetime | None) -> "VideoIndex":
    from pipeline.archive.video.remembered import remembered_index

    return remembered_index(root, file, size, mtime)
