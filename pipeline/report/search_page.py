"""A search as one self-contained page: each image with its ranked list."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from pipeline.report.camera_grid import natural
from pipeline.report.templates import fill_template


def render_search(
    found: Mapping[str, Any], pictures: Mapping[str, str], crops: Mapping[str, str]
) -> str:
    """Make the page for the result of a search; an image without a picture shows a placeholder.

    `found` has `gallery`, `version`, `rows`, `threshold` and `threshold_from` (or None),
    `not_searched` (each with `image`, `reason`, `detail`) and `results`. Each result has `image`,
    the images `queried` if several are one query, and its `hits` with `rank`, `row_id`, `path`,
    `identity`, `camera`, `captured_at`, `score` and `match` (or None). `pictures` are the
    `thumbnails.thumbnail` of images, `crops` those of hits by path. The page loads nothing from the
    network, and the same input gives the same bytes.
    """
    absent = _absent(found["results"], crops)
    hits = [hit for each in found["results"] for hit in each["hits"]]
    cameras = {hit["camera"] for hit in hits}
    identities = {hit["identity"] for hit in hits}
    script = files("pipeline.report").joinpath("search.js").read_text("utf-8")
    return fill_template(
        "search.html",
        found=found,
        pictures=pictures,
        crops=crops,
        absent=absent,
        images=sum(max(1, len(each["queried"])) for each in found["results"]),
        cameras=sorted(cameras, key=natural),
        identities=sorted(identities, key=lambda each: (each is None, each or 0)),
        script=Markup(script),
        # The page's policy allows only this script, so none that a name might contain can run.
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _absent(results: Sequence[Mapping[str, Any]], crops: Mapping[str, str]) -> int:
    """The number of crops in the lists that have no picture."""
    paths = {hit["path"] for each in results for hit in each["hits"]}
    return len(paths - crops.keys())
