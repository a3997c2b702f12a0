"""Crops of work units: read and decode them ahead of the network, and measure them.

Extraction and training read crops here, so that a network is trained on the pixels that it will
extract from.
"""

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.archive.decoding.images import decode
from pipeline.archive.faults import Rejected
from pipeline.archive.limits import MAX_BYTES, MAX_PIXELS, REMOTE_READERS
from pipeline.archive.listing.reading import read_image
from pipeline.archive.locations import local_path
from pipeline.archive.video.ahead import ahead
from pipeline.archive.video.places import files_of
from pipeline.core.crop_oddities import oddity
from pipeline.core.crop_quality import quality
from pipeline.gallery.files import schema


@dataclass(frozen=True)
class Decoding:
    """Where crops are, and how they are read and decoded.

    `ahead` is the number of crops that are decoded before they are needed. `stretch` has the counts
    that become black and white in pictures with more than 8 bits. Crops of less than
    `least_quality` are rejects; None if quality is not measured.
    """

    root: str
    threads: int = 2
    ahead: int = 64
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    stretch: tuple[float, float] | None = None
    least_quality: float | None = None

    @property
    def readers(self) -> int:
        """Threads that read and decode; more for a source on a network, because they mostly
        wait.
        """
        is_near = local_path(self.root) is not None
        return self.threads if is_near else max(self.threads, REMOTE_READERS)


@dataclass(frozen=True)
class CropFacts:
    """The values that a row stores about an image, apart from its feature."""

    content_hash: bytes
    height: int
    width: int
    quality: float | None
    oddity: str | None


@dataclass(frozen=True)
class DecodedCrop:
    """A decoded member of a unit."""

    place: int
    pixels: NDArray[np.uint8]
    facts: CropFacts


@dataclass(frozen=True)
class Bad:
    """A member of a unit that does not become a row."""

    place: int
    reason: str
    detail: str


class SlotContest:
    """The competition of a unit's boxes for slots: each slot goes to the sharpest, by `quality`."""

    def __init__(self, members: pa.Table) -> None:
        self._slots = members["slot"].to_pylist()
        if any(slot is not None for slot in self._slots):
            files = files_of(members).to_pylist()
            self._slots = [
                None if slot is None else (file, slot)
                for file, slot in zip(files, self._slots, strict=True)
            ]
        self._coming = Counter(self._slots)
        self._crops: dict[Any, list[DecodedCrop]] = {}

    def enter(self, member: DecodedCrop | Bad) -> Iterator[DecodedCrop | Bad]:
        """Add a member, and yield the members that are now decided: itself if it does not
        compete.
        """
        slot = self._slots[member.place]
        if slot is None:
            yield member
            return
        self._coming[slot] -= 1
        if isinstance(member, Bad):
            yield member
        else:
            self._crops.setdefault(slot, []).append(member)
        if self._coming[slot] == 0 and (crops := self._crops.pop(slot, [])):
            best = max(crops, key=lambda crop: (quality(crop.pixels), -crop.place))
            yield best
            for crop in crops:
                if crop is not best:
                    yield Bad(crop.place, "not-best", "another box of its tracklet is sharper")


def decoded_crops(members: pa.Table, how: Decoding) -> Iterator[DecodedCrop | Bad]:
    """Yield the members of a unit, read and decoded on threads.

    Images come in order, boxes in the order of their frames.
    """
    if "run" in members.column_names:
        yield from _cut(members, how)
        return
    columns = [members[name].to_pylist() for name in ("path", "offset", "size")]
    waiting = iter(enumerate(zip(*columns, strict=True)))
    coming: deque[Future[DecodedCrop | Bad]] = deque()
    with ThreadPoolExecutor(how.readers) as pool:
        for place, member in islice(waiting, how.ahead):
            coming.append(pool.submit(_decode, how, place, *member))
        while coming:
            decoded = coming.popleft().result()
            for place, member in islice(waiting, 1):
                coming.append(pool.submit(_decode, how, place, *member))
            yield decoded


def _decode(
    how: Decoding, place: int, path: str, offset: int | None, size: int | None
) -> DecodedCrop | Bad:
    in_tar = None if offset is None or size is None else (offset, size)
    try:
        most = how.max_bytes
        data = read_image(how.root, path, in_tar, size=size, max_bytes=most)
        pixels = decode(data, max_pixels=how.max_pixels, stretch=how.stretch)
    except Rejected as error:
        return Bad(place, error.reason, error.detail)
    return _measured(how, place, pixels, schema.content_hash(data))


def _cut(members: pa.Table, how: Decoding) -> Iterator[DecodedCrop | Bad]:
    """Yield the boxes of a unit; of those that compete for a slot, only the sharpest."""
    # Imported here, because it loads PyAV.
    from pipeline.archive.video.decoding import Limits, cut_boxes

    limits = Limits(how.max_pixels, how.max_bytes, how.stretch)
    boxes = cut_boxes(how.root, members, threads=how.threads, limits=limits)
    contest = SlotContest(members)
    hashes = members["content_hash"]
    for box in ahead(boxes, how.ahead):
        if isinstance(box.pixels, Rejected):
            made: DecodedCrop | Bad = Bad(box.place, box.pixels.reason, box.pixels.detail)
        else:
            hashed = hashes[box.place].as_py()
            hashed = hashed or schema.content_hash(box.data or b"")
            made = _measured(how, box.place, box.pixels, hashed)
        yield from contest.enter(made)


def _measured(
    how: Decoding, place: int, pixels: NDArray[np.uint8], hashed: bytes
) -> DecodedCrop | Bad:
    """The crop with the values that a row stores, unless its quality is too low."""
    measured, least = None, how.least_quality
    if least is not None:
        measured = quality(pixels)
        if measured < least:
            detail = f"its quality is {measured:.4g}, and {least:g} was asked for"
            return Bad(place, "low-quality", detail)
    height, width = pixels.shape[:2]
    return DecodedCrop(place, pixels, CropFacts(hashed, height, width, measured, oddity(pixels)))
