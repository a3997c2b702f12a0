"""The files of the page, which hold no data of a gallery."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.service.faults import Refused

_READS = ("GET", "HEAD")
PAGE = Path(__file__).parent / "page"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
"""What each kind of file is, whatever this machine's registry says."""


@dataclass(frozen=True)
class PageFile:
    """A file of the page in memory, with the tag by which a browser knows it again."""

    content: bytes
    media_type: str
    etag: str


def read_page(folder: Path = PAGE) -> dict[str, PageFile]:
    """The files of a page by their paths in URLs; the folder itself stands for its index.html.

    Only what was there at the start is served, so no path of a request reaches the disk.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in _TYPES:
            content = path.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            name = path.relative_to(folder).as_posix()
            found[name] = PageFile(content, _TYPES[path.suffix], tag)
    if "index.html" in found:
        found[""] = found["index.html"]
    return found


def page_route(files: Mapping[str, PageFile]) -> Route:
    """The route of the files of a page; it comes last, because it takes every path."""

    def page(request: Request) -> Response:
        file = files.get(request.path_params["path"])
        if file is None:
            raise Refused(404, "there is nothing under this path")
        if request.method not in _READS:
            raise Refused(405, "a file of the page can only be read")
        headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    # Of every method, so that a path that nothing has is told as such.
    return Route("/{path:path}", page, methods=[*_READS, "POST", "PUT", "PATCH", "DELETE"])
