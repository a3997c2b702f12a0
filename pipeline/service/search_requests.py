"""What a request searches for: read from its body, and checked."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from pipeline.core.vectors import faults, unit_vectors
from pipeline.errors import InputError
from pipeline.service.asking import Whole, check_fields, json_body, row_ids
from pipeline.service.embedding import PixelBox
from pipeline.service.settings import ServiceSettings

_KINDS = ("row", "rows", "vector", "vectors", "image", "images", "positive", "frame")
_OPTIONS = ("negative", "box", "filter", "limit", "threshold", "version")
_LIMIT = 10


@dataclass(frozen=True, eq=False)
class SearchRequest:
    """A search: exactly one of `rows`, `vectors`, `images`, `examples` and `frame`.

    `examples` are row ids that hits are to be like, and those that they are not to be like. `frame`
    is a row whose whole frame is meant; `box` is a part of it, or of each image.
    """

    rows: tuple[int, ...] = ()
    vectors: NDArray[np.float32] | None = None
    images: tuple[bytes, ...] = ()
    examples: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    frame: int | None = None
    box: PixelBox | None = None
    filter: Any = None
    limit: int = _LIMIT
    threshold: float | None = None
    version: int | None = None


async def read_search(request: Request, settings: ServiceSettings) -> SearchRequest:
    """The search of a request: JSON, or an image file with its options in the query.

    Raise `Refused` or InputError for anything that is not understood completely.
    """
    kind = request.headers.get("content-type", "")
    if kind.startswith("image/"):
        given: dict[str, Any] = dict(request.query_params)
        check_fields(given, ("limit", "threshold", "version"))
        images = (await request.body(),)
        return SearchRequest(images=images, **_options(given, settings))
    body = await json_body(request)
    check_fields(body, (*_KINDS, *_OPTIONS))
    asked = [name for name in _KINDS if body.get(name) is not None]
    if len(asked) != 1:
        raise InputError(f"a search needs exactly one of {', '.join(_KINDS)}")
    (name,) = asked
    found = SearchRequest(**_asked(name, body, settings), **_options(body, settings))
    if found.box is not None and not (found.images or found.frame is not None):
        raise InputError("`box` goes with `image`, `images` or `frame`")
    if body.get("negative") is not None and name != "positive":
        raise InputError("`negative` goes with `positive`")
    return found


def _asked(name: str, body: dict[str, Any], settings: ServiceSettings) -> dict[str, Any]:
    """The field of the search that a kind of query fills."""
    value, most = body[name], settings.max_queries
    if name in ("row", "rows"):
        return {"rows": tuple(row_ids([value] if name == "row" else value, name, most))}
    if name in ("vector", "vectors"):
        return {"vectors": vectors_of([value] if name == "vector" else value, most)}
    if name in ("image", "images"):
        return {"images": _images([value] if name == "image" else value, most)}
    if name == "positive":
        negative = body.get("negative") or []
        unlike = tuple(row_ids(negative, "negative", most)) if negative else ()
        return {"examples": (tuple(row_ids(value, "positive", most)), unlike)}
    if not isinstance(value, dict) or set(value) != {"row"}:
        raise InputError('`frame` must be an object with the id of a row, such as {"row": 17}')
    return {"frame": Whole("row").read(value["row"])}


def _options(given: dict[str, Any], settings: ServiceSettings) -> dict[str, Any]:
    version = given.get("version")
    return {
        "filter": given.get("filter"),
        "limit": Whole("limit", 1, settings.max_results).of(given.get("limit"), _LIMIT),
        "threshold": _threshold(given.get("threshold")),
        "version": None if version is None else Whole("version").of(version, 0),
        "box": _box(given.get("box")),
    }


def _threshold(given: Any) -> float | None:
    if given is None:
        return None
    try:
        value = float(given)
    except (TypeError, ValueError) as error:
        raise InputError(f"`threshold` must be a number, not {given!r:.40}") from error
    if isinstance(given, bool) or not -1 <= value <= 1:
        raise InputError(f"`threshold` must be a cosine similarity from -1 to 1, not {given!r:.40}")
    return value


def _box(given: Any) -> PixelBox | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 4:
        raise InputError("`box` must be [x, y, width, height], in pixels")
    edge = 1 << 20
    x, y = (Whole("box", -edge, edge).read(each) for each in given[:2])
    width, height = (Whole("box", 1, edge).read(each) for each in given[2:])
    return x, y, width, height


def vectors_of(given: Any, most: int) -> NDArray[np.float32]:
    """Unit vectors `[n, D]` of JSON lists; raise InputError for anything else, or too many."""
    if not isinstance(given, list) or not 0 < len(given) <= most:
        raise InputError(f"`vectors` must be a list of 1 to {most} vectors")
    try:
        rows = np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError("a vector must be a list of numbers, all of one length") from error
    if rows.ndim != 2:
        raise InputError("a vector must be a list of numbers, all of one length")
    if not np.isfinite(rows).all():
        raise InputError("a vector must have finite numbers")
    if wrong := faults(rows):
        number, reason = next(iter(wrong.items()))
        raise InputError(f"vector {number + 1}: {reason}")
    return unit_vectors(rows)


def _images(given: Any, most: int) -> tuple[bytes, ...]:
    if not isinstance(given, list) or not 0 < len(given) <= most:
        raise InputError(f"`images` must be a list of 1 to {most} images")
    return tuple(image_of(each) for each in given)


def image_of(text: Any) -> bytes:
    """The bytes that a base64 text stands for; raise InputError for anything else."""
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"an image must be an image file in base64 ({error})") from error
    raise InputError("an image must be an image file in base64")
