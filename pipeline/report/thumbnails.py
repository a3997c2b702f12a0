"""Small pictures for the page, inlined as data URIs so that the page is one file."""

import base64
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.report.results import Report

# Twice the size on the page, for screens of high density.
_BOX = (128, 256)
_QUALITY = 80
_DATA_URI = re.compile(r"data:image/(?:jpeg|png|webp);base64,[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class Thumbnails:
    """The data URI of each picture by its path; separate, because a query and a gallery may share a
    path.

    Raise InputError unless each value is a base64 data URI of a JPEG, PNG or WebP image: anything
    else, such as a URL, would make the page load from elsewhere.
    """

    query: Mapping[str, str] = field(default_factory=dict)
    gallery: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for side in (self.query, self.gallery):
            for path, uri in side.items():
                if not _DATA_URI.fullmatch(uri):
                    raise InputError(f"thumbnail of {path!r}: is not a base64 data URI of an image")


def thumbnail(image: np.ndarray) -> str:
    """Make a JPEG data URI of `image` (uint8 `[H, W, 3]`, RGB), at most 128 x 256 pixels, same
    shape.

    Raise InputError for an array of another shape or dtype.

    >>> thumbnail(np.zeros((600, 200, 3), np.uint8))[:23]
    'data:image/jpeg;base64,'
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(f"thumbnail: wants uint8 [H, W, 3], got {image.dtype} {image.shape}")
    picture = Image.fromarray(image)
    picture.thumbnail(_BOX, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def pictured_paths(report: "Report") -> tuple[list[str], list[str]]:
    """The query paths and the gallery paths in the ranked lists, each sorted and without
    repeats.
    """
    entries = report.ranked.entries if report.ranked else ()
    queries = {entry.query.path for entry in entries}
    gallery = {hit.path for entry in entries for hit in entry.list}
    return sorted(queries), sorted(gallery)
