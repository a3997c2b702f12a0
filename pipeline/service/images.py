"""Pictures as answers: JPEG, scaled, with a tag by which a browser knows them again."""

import hashlib
import io
import os
from collections.abc import Callable

import anyio
import numpy as np
from anyio.to_thread import run_sync
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.errors import InputError
from pipeline.service.asked_gallery import one_of, position_of
from pipeline.service.asking import Whole
from pipeline.service.faults import Refused
from pipeline.service.galleries import table_of
from pipeline.service.held_gallery import HeldGallery
from pipeline.service.pictures import RowPicture, crop_of, frame_of, reject_picture

_HEIGHT = Whole("height", 16, 2160)
_REJECT = Whole("n")
_QUALITY = 85
_KINDS = {"crop": crop_of, "frame": frame_of}


async def show(request: Request) -> Response:
    """Show the crop of a row, or the frame that it was cut from.

    The headers of a frame tell the row's box in the picture as it is answered.
    """
    return await _decoding(request, _show)


async def show_reject(request: Request) -> Response:
    """Show an input that gave no row, by its place in the list of rejects."""
    return await _decoding(request, _show_reject)


async def _decoding(request: Request, answer: Callable[[Request], Response]) -> Response:
    """Decode in a thread, as many pictures at once as there are processors."""
    state = request.app.state
    if not hasattr(state, "decoders"):
        state.decoders = anyio.CapacityLimiter(max(2, os.cpu_count() or 2))
    return await run_sync(answer, request, limiter=state.decoders)


def _show(request: Request) -> Response:
    held, given = one_of(request), request.query_params
    kind, height = given.get("kind", "crop"), _HEIGHT.of(given.get("height"), 0)
    if kind not in _KINDS:
        raise InputError(f"`kind` must be crop or frame, not {kind!r:.40}")
    position = position_of(held, request.path_params["row_id"])
    headers = {"ETag": _tag(held, position, kind, height), "Cache-Control": "private, no-cache"}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    picture = _KINDS[kind](table_of(held), position)
    return _answer(picture, height, headers)


def _show_reject(request: Request) -> Response:
    held = one_of(request)
    rejects = table_of(held).rejects()["path"]
    number = _REJECT.read(request.path_params["n"])
    if number >= len(rejects):
        raise Refused(404, f"{held.name} has {len(rejects):,} rejects, counted from 0")
    height = _HEIGHT.of(request.query_params.get("height"), 0)
    return _answer(reject_picture(table_of(held), rejects[number].as_py()), height, {})


def _answer(picture: RowPicture, height: int, headers: dict[str, str]) -> Response:
    image = Image.fromarray(np.ascontiguousarray(picture.pixels))
    scale = min(1.0, height / image.height) if height else 1.0
    size = image.size
    if scale < 1:
        image = image.resize((max(1, round(image.width * scale)), height), Image.Resampling.LANCZOS)
    box = [round(edge * scale, 2) for edge in picture.box]
    told = {
        "X-Box": ",".join(f"{edge:g}" for edge in box),
        "X-Frame-Size": f"{size[0]},{size[1]}",
    }
    written = io.BytesIO()
    image.save(written, "JPEG", quality=_QUALITY)
    return Response(written.getvalue(), media_type="image/jpeg", headers=headers | told)


def _tag(held: HeldGallery, position: int, kind: str, height: int) -> str:
    """A tag that changes with the row's picture: a row never changes under its id and path."""
    gallery = table_of(held)
    row = held.columns.slice(position, 1).select(["row_id", "path"]).to_pylist()[0]
    about = (gallery.location, gallery.fingerprint, row["row_id"], row["path"], kind, height)
    return f'"{hashlib.sha256(repr(about).encode()).hexdigest()[:32]}"'


ROUTES = [
    Route("/v1/galleries/{gallery}/rows/{row_id}/image", show, methods=["GET"]),
    Route("/v1/galleries/{gallery}/rejects/{n}/image", show_reject, methods=["GET"]),
]
