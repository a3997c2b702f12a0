"""The images of a search: find and decode them, and compute features by the gallery's recipe."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.archive.decoding.images import Stretch
from pipeline.archive.faults import Rejected
from pipeline.archive.limits import MAX_BYTES
from pipeline.archive.listing.source import list_source
from pipeline.archive.locations import join, local_path, locate
from pipeline.archive.video.pictures import read_pixels
from pipeline.core.crop_oddities import FRAME, THIN, oddity
from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.model.extractor import Extractor
from pipeline.model.feature_models import unit_features
from pipeline.model.imported import ImportedRecipe, read_recipe
from pipeline.model.networks import NetworkFile
from pipeline.report.thumbnails import thumbnail

_ODD = {
    FRAME: "is as large and as wide as a whole frame: what is searched is one person or vehicle, so"
    " cut it out first",
    THIN: "uses next to nothing of the range of levels: what is found means little",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NotSearched:
    """An image that was not searched for, with a reason (as of a reject) and a sentence."""

    image: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Queries:
    """The images that gave a feature, in the order asked for, and those that gave none.

    `features` is float32 `[Q, D]`, row q that of `images[q]`.
    """

    images: tuple[str, ...]
    features: NDArray[np.float32]
    not_searched: tuple[NotSearched, ...]


def open_extractor(gallery: Gallery, network: NetworkFile, batch_size: int) -> Extractor:
    """Open the network, with the settings of the gallery; raise InputError if it is another
    network.
    """
    recipe = read_recipe(gallery.recipe_json)
    if isinstance(recipe, ImportedRecipe):
        raise InputError(
            f"{gallery.location} holds imported features ({recipe.imported}): no network here is"
            " known to make such; import the queries too, and use evaluate"
        )
    found = network.weights_hash()
    if found != recipe.weights:
        raise InputError(
            f"`model` {network.given[0]} is not the network of {gallery.location} (weights"
            f" {found[:12]}... here, {recipe.weights[:12]}... there): features of two networks are"
            " never compared; give the file that the gallery was extracted with"
        )
    precision = gallery.properties["precision"]
    return Extractor(network, recipe, batch_size=batch_size, precision=precision)


def find_images(given: Sequence[str]) -> tuple[list[str], list[NotSearched]]:
    """The given images and all images of given folders, each once; and the unreadable ones."""
    images: list[str] = []
    faults: list[NotSearched] = []
    for location in given:
        filesystem, path = locate(location)
        if not filesystem.isdir(path):
            images.append(location)
            continue
        listing = list_source(location)
        images += [join(location, each) for each in listing.images["path"].to_pylist()]
        faults += [
            NotSearched(join(location, each["path"]), each["reason"], each["detail"])
            for each in listing.rejects.to_pylist()
        ]
    return list(dict.fromkeys(images)), faults


def read_queries(given: Sequence[str], extractor: Extractor, max_bytes: int = MAX_BYTES) -> Queries:
    """Features of the images, a batch in memory at a time."""
    images, faults = find_images(given)
    good: list[str] = []
    parts = [np.empty((0, extractor.dimension), np.float32)]
    decoded = _decoded(images, faults, max_bytes, extractor.recipe.stretch)
    for batch, rows, wrong in unit_features(decoded, extractor):
        faults += [NotSearched(batch[row], "bad-feature", why) for row, why in wrong.items()]
        kept = [row for row in range(len(batch)) if row not in wrong]
        good += [batch[row] for row in kept]
        parts.append(rows[kept])
    return Queries(tuple(good), np.concatenate(parts), tuple(faults))


def read_picture(
    location: str, max_bytes: int = MAX_BYTES, stretch: Stretch | None = None
) -> NDArray[np.uint8]:
    """The picture at a location (path or URL), uint8 `[H, W, 3]`; Rejected if there is none."""
    local = local_path(location)
    path = location if local is None else str(local)
    return read_pixels("", path, max_bytes=max_bytes, stretch=stretch)


def thumbnails(
    locations: Mapping[str, str], stretch: Stretch | None = None
) -> tuple[dict[str, str], tuple[NotSearched, ...]]:
    """A small picture of each image that is still there, by name, and why the others have none."""
    made: dict[str, str] = {}
    missing = []
    for name, location in locations.items():
        try:
            made[name] = thumbnail(read_picture(location, stretch=stretch))
        except Rejected as error:
            missing.append(NotSearched(name, error.reason, error.detail))
    return made, tuple(missing)


def _decoded(
    images: Sequence[str],
    faults: list[NotSearched],
    max_bytes: int,
    stretch: Stretch | None,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The images that decode; the others go to `faults`."""
    for image in images:
        try:
            pixels = read_picture(image, max_bytes, stretch)
        except Rejected as error:
            faults.append(NotSearched(image, error.reason, error.detail))
            continue
        if (odd := oddity(pixels)) is not None:
            _log.warning("%s %s", image, _ODD[odd])
        yield image, pixels
