"""A search as one self-contained page: each image with its ranked list."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.templates import fill


def render(found: Mapping[str, Any], pictures: Mapping[str, str], crops: Mapping[str, str]) -> str:
    """The page of what a search found; an image without a picture shows a placeholder.

    `found` has `gallery`, `version`, `rows`, `threshold` and `threshold_from` (or None),
    `not_searched` (each with `image`, `reason`, `detail`) and `results`: each with `image` and its
    `hits`, of `rank`, `row_id`, `path`, `identity`, `camera`, `captured_at`, `score` and `match`
    (or None). `pictures` are the `thumbnails.thumbnail` of images, `crops` those of hits by path.
    The page asks the network for nothing, and the same input gives the same bytes.
    """
    absent = _absent(found["results"], crops)
    return fill("search.html", found=found, pictures=pictures, crops=crops, absent=absent)


def _absent(results: Sequence[Mapping[str, Any]], crops: Mapping[str, str]) -> int:
    """How many of the crops found have no picture."""
    paths = {hit["path"] for each in results for hit in each["hits"]}
    return len(paths - crops.keys())
