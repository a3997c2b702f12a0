"""The pixels of a row, read again from the gallery's source: its crop, or its whole frame."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.archive.decoding.images import Stretch
from pipeline.archive.faults import ChangedError, Rejected
from pipeline.archive.video import names
from pipeline.archive.video.pictures import read_pixels
from pipeline.core.tracklets import groups
from pipeline.errors import InputError, RunError
from pipeline.gallery.derived import derivation
from pipeline.gallery.table import Gallery
from pipeline.model.imported import read_recipe
from pipeline.service.faults import Refused

_WHOLE = names.Box(0, 0, 2**31, 2**31)
_GONE = ("missing", "missing-video", "no-frame")


@dataclass(frozen=True)
class RowPicture:
    """A picture uint8 `[H, W, 3]`, and the row's box in it: x, y, width and height."""

    pixels: NDArray[np.uint8]
    box: tuple[int, int, int, int]


def crop_of(gallery: Gallery, position: int) -> RowPicture:
    """What a row's feature was computed from; for a tracklet, one of its crops.

    Raise `Refused`: 404 if the source no longer has it, 409 if it has changed since.
    """
    gallery, row = _shown_row(gallery, position)
    return _whole(_read(gallery, row["path"], row["content_hash"]))


def frame_of(gallery: Gallery, position: int) -> RowPicture:
    """The whole picture that a row was cut from; the crop itself, if it was not cut from any.

    Raise what `crop_of` raises.
    """
    gallery, row = _shown_row(gallery, position)
    name = names.box_of_name(row["path"])
    if name is None:
        return crop_of(gallery, position)
    whole = names.box_name(name.file, name.frame, _WHOLE)
    pixels = _read(gallery, whole, row["content_hash"])
    height, width = pixels.shape[:2]
    inside = name.box.within(width, height)
    if inside is None:
        raise Refused(409, f"{name.file} has changed: the box is no longer in it")
    left, top, right, bottom = inside
    return RowPicture(pixels, (left, top, right - left, bottom - top))


def reject_picture(gallery: Gallery, path: str) -> RowPicture:
    """The picture of an input that gave no row, if it can be decoded; raise `Refused` if not."""
    return _whole(_read(gallery, path, None))


def _whole(pixels: NDArray[np.uint8]) -> RowPicture:
    height, width = pixels.shape[:2]
    return RowPicture(pixels, (0, 0, width, height))


def _read(gallery: Gallery, path: str, content_hash: bytes | None) -> NDArray[np.uint8]:
    """Read pixels below the source; what refuses them does not tell where the source is."""
    stretch: Stretch | None = getattr(read_recipe(gallery.recipe_json), "stretch", None)
    source = gallery.properties["source"]
    try:
        return read_pixels(source, path, stretch=stretch, content_hash=content_hash)
    except Rejected as error:
        status = 404 if error.reason in _GONE else 409
        raise Refused(status, f"{path} cannot be shown: {error.detail}") from error
    except ChangedError as error:
        raise Refused(409, f"{path} cannot be shown: its file has changed since") from error
    except (InputError, OSError) as error:
        raise Refused(409, f"{path} cannot be shown: its source cannot be reached") from error


def _shown_row(gallery: Gallery, position: int) -> tuple[Gallery, dict[str, Any]]:
    """A row with its path and content hash; for a tracklet, a row of its parent gallery."""
    (row,) = gallery.rows_at(np.array([position]), ["path", "content_hash"]).to_pylist()
    how = derivation(gallery)
    if how is None or not how.of_tracklets:
        return gallery, row
    for parent in how.parents:
        try:
            held, middle = _middle_rows(parent)
        except (InputError, RunError) as error:
            raise Refused(404, f"{row['path']} cannot be shown: {error}") from error
        if (place := middle.get(row["path"])) is not None:
            return _shown_row(held, place)
    raise Refused(404, f"{row['path']} cannot be shown: no parent gallery has its crops now")


@lru_cache(maxsize=4)
def _at_version(location: str, version: int) -> tuple[Gallery, dict[str, int]]:
    """A gallery, and the position of a row of each of its tracklets: the one in the middle."""
    gallery = Gallery.open(location, version)
    codes = gallery.rows(["tracklet"])["tracklet"].combine_chunks().dictionary_encode()
    order, starts = groups(codes.indices.fill_null(-1).to_numpy().astype(np.int64))
    middle = order[(starts[:-1] + starts[1:]) // 2]
    names_there = codes.take(pa.array(middle)).to_pylist()
    return gallery, dict(zip(names_there, middle.tolist(), strict=True))


def _middle_rows(location: str) -> tuple[Gallery, dict[str, int]]:
    return _at_version(location, Gallery.open(location).version)


def forget_parents() -> None:
    """Forget what is known of the rows of parent galleries, as after an erasure."""
    _at_version.cache_clear()
