"""Recognize the kind of an image file by its first bytes."""

import re

JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
HEAD = 64
"""This many bytes are enough to recognize a format."""

_PREFIXES = {
    "jpeg": (JPEG,),
    "png": (PNG,),
    "gif": (b"GIF87a", b"GIF89a"),
    "bmp": (b"BM",),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "ppm": tuple(b"P%d%c" % (kind, space) for kind in range(1, 7) for space in b" \t\r\n#"),
    "jpeg2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "jxl": (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
}
_HEIF = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"mif2", b"msf1"))
# A text may begin with the same bytes, so more of the header must match.
_SURELY = {
    "bmp": re.compile(rb"BM.{4}\0{4}", re.DOTALL),
    "ppm": re.compile(rb"P[1-6]\s+(?:#|\d+\s)"),
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "jxl": re.compile(rb"\xff\x0a[^\r\n]|\0"),
}


def kind_of(data: bytes) -> str | None:
    """The kind of image that begins with these bytes; None if no kind does.

    >>> kind_of(b"GIF89a..."), kind_of(b"hello"), kind_of(b"\\0\\0\\0\\x14ftypisom....mp41")
    ('gif', None, None)
    """
    for kind, prefixes in _PREFIXES.items():
        if data.startswith(prefixes):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        end = max(16, min(int.from_bytes(data[:4], "big"), HEAD))
        brands = {data[place : place + 4] for place in (8, *range(16, end, 4))}
        if brands & {b"avif", b"avis"}:
            return "avif"
        return "heif" if brands & _HEIF else None
    return None


def is_surely_image(head: bytes) -> bool:
    """Whether a file begins like an image, although its name does not say so.

    >>> is_surely_image(b"GIF89a..."), is_surely_image(b"BM is a company")
    (True, False)
    """
    kind = kind_of(head)
    return kind is not None and (kind not in _SURELY or _SURELY[kind].match(head) is not None)
