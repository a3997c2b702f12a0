"""Warnings about images that become features like any other but are hardly crops of people."""

import logging
from collections import Counter
from collections.abc import Iterable

from pipeline.archive.decoding.images import Stretch, decode, lowest_and_highest
from pipeline.archive.faults import Rejected
from pipeline.archive.limits import MAX_PIXELS
from pipeline.archive.listing.reading import read_image
from pipeline.archive.video import names
from pipeline.archive.video.pictures import read_pixels
from pipeline.core.crop_oddities import FRAME, LEAST_RANGE, THIN, range_used

_log = logging.getLogger(__name__)


def warn_of_oddities(
    found: Iterable[tuple[str, int, str]],
    root: str,
    stretch: Stretch | None,
    *,
    of: int,
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Log how many of `of` images are odd; `found` has kinds, counts and an example of each."""
    counts = Counter[str]()
    examples: dict[str, str] = {}
    for kind, count, path in found:
        counts[kind] += count
        examples.setdefault(kind, path)
    if number := counts[THIN]:
        told = _range_of(root, examples[THIN], stretch, max_pixels)
        _log.warning(
            "%d of %d images use less than %.0f %% of the range of levels, so that their features"
            " hardly differ; %s", number, of, 100 * LEAST_RANGE, told,
        )  # fmt: skip
    if number := counts[FRAME]:
        _log.warning(
            "%d of %d images are as large and as wide as whole frames, %s for one: a feature is of"
            " one person or vehicle, so cut them out first", number, of, examples[FRAME],
        )  # fmt: skip


def _range_of(root: str, path: str, stretch: Stretch | None, max_pixels: int) -> str:
    """The share of the range that an image uses, and the setting that helps."""
    try:
        if names.box_of_name(path) is not None:  # counts are those of a file of its own
            used, counts = range_used(read_pixels(root, path, stretch=stretch)), None
        else:
            data = read_image(root, path)
            used = range_used(decode(data, max_pixels=max_pixels, stretch=stretch))
            counts = lowest_and_highest(data)
    except Rejected as error:
        return f"{path} can no longer be read: {error.detail}"
    share = f"{path} uses {100 * used:.1f} %"
    if counts is None or counts[0] == counts[1]:
        return share
    low, high = counts
    return (
        f"{share}, with counts from {low:g} to {high:g}: `stretch` LOW HIGH says which counts are"
        f" black and white, such as {low:g} {high:g}"
    )
