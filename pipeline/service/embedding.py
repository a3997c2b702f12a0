"""Features of pictures that come with requests, by the recipe of the gallery that is searched."""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.archive.decoding.images import decode
from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.model.extractor import Extractor
from pipeline.model.feature_models import unit_features
from pipeline.model.networks import NetworkFile
from pipeline.runs.cameras import normalization_of
from pipeline.runs.queries import open_extractor
from pipeline.runs.union import AnyGallery, parts_of

PixelBox = tuple[int, int, int, int]
"""A part of a picture: x, y, width and height in pixels."""


class Embedder:
    """One network, opened for each recipe that is asked for; one thread uses it at a time."""

    def __init__(self, network: NetworkFile) -> None:
        self._network = network
        self._opened: dict[str, Extractor] = {}
        self._lock = threading.Lock()

    def check(self, galleries: Sequence[Gallery]) -> None:
        """Open the network for these galleries; raise InputError if it is not theirs."""
        for gallery in galleries:
            self._extractor(gallery)

    def decode(self, gallery: AnyGallery, data: bytes, max_pixels: int) -> NDArray[np.uint8]:
        """The picture in an image file, as extraction reads it; raise Rejected if there is none."""
        stretch = self._extractor(parts_of(gallery)[0]).recipe.stretch
        return decode(data, max_pixels=max_pixels, stretch=stretch)

    def features(
        self, gallery: AnyGallery, crops: Sequence[NDArray[np.uint8]]
    ) -> NDArray[np.float32]:
        """Unit features `[n, D]` of crops uint8 `[H, W, 3]`.

        Raise InputError, with the number of the crop, for one that has none.
        """
        first = parts_of(gallery)[0]
        if normalization_of(first):
            raise InputError(
                f"{first.location} was made with normalization by camera, and an image has no"
                " camera: search the gallery that it was made from"
            )
        extractor = self._extractor(first)
        parts = [np.empty((0, extractor.dimension), np.float32)]
        with self._lock:
            for batch, rows, wrong in unit_features(enumerate(crops), extractor):
                for row, why in wrong.items():
                    raise InputError(f"image {batch[row] + 1}: the network has no feature: {why}")
                parts.append(rows)
        return np.concatenate(parts)

    def _extractor(self, gallery: Gallery) -> Extractor:
        with self._lock:
            if gallery.recipe_json not in self._opened:
                opened = open_extractor(gallery, self._network, batch_size=1)
                self._opened[gallery.recipe_json] = opened
            return self._opened[gallery.recipe_json]


def cut(pixels: NDArray[np.uint8], box: PixelBox | None) -> NDArray[np.uint8]:
    """The part of a picture in a box, as far as it lies in the picture; all of it without a box.

    Raise InputError for a box that has nothing of the picture.
    """
    if box is None:
        return pixels
    x, y, width, height = box
    part = pixels[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
    if not part.size:
        raise InputError(
            f"the box {x},{y},{width},{height} is empty in a picture of {pixels.shape[1]} x"
            f" {pixels.shape[0]} pixels"
        )
    return np.ascontiguousarray(part)
