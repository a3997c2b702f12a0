"""Decode JPEG with libjpeg-turbo: read the header, then decode strictly to RGB."""

import re
from typing import NamedTuple

import numpy as np
import simplejpeg

from pipeline.archive.decoding.exif import upright
from pipeline.archive.decoding.signatures import JPEG
from pipeline.archive.faults import DecodeError, check_pixels

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_END, _SCAN, _APP1, _APP14 = 0xD9, 0xDA, 0xE1, 0xEE
_PADDING = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


class Header(NamedTuple):
    """The header before the pixels; `exif` is empty if there is none."""

    height: int
    width: int
    precision: int
    components: int
    adobe: bool
    exif: bytes


class UnusualJpegError(Exception):
    """libjpeg-turbo's simple interface cannot decode this variant; another decoder may."""


def read_header(data: bytes) -> Header:
    """Read the header of a JPEG; raise DecodeError if it is cut off or has no frame."""
    position, exif, adobe = len(JPEG), b"", False
    while True:
        position = data.find(0xFF, position)
        if position < 0 or position + 10 > len(data):
            raise DecodeError("truncated", "the file ends before its picture begins")
        marker = data[position + 1]
        if marker in (0x00, 0xFF):
            position += 1
            continue
        if marker in _STANDALONE:
            position += 2
            continue
        if marker in (_SCAN, _END):
            raise DecodeError("corrupt", "its header does not say how large the picture is")
        body = position + 4
        if marker in _FRAMES:
            height = data[body + 1] << 8 | data[body + 2]
            width = data[body + 3] << 8 | data[body + 4]
            return Header(height, width, data[body], data[body + 5], adobe, exif)
        length = data[body - 2] << 8 | data[body - 1]
        if marker == _APP1 and not exif and data.startswith(b"Exif\0\0", body):
            exif = data[body : position + 2 + length]
        elif marker == _APP14 and data.startswith(b"Adobe", body):
            adobe = True
        position += 2 + length


def decode(data: bytes, max_pixels: int) -> np.ndarray:
    """Decode a JPEG to an upright RGB picture `[H, W, 3]` (see `decoding.decode`).

    Raise DecodeError, and UnusualJpegError for a variant that another decoder must handle.
    """
    header = read_header(data)
    check_pixels(header.height, header.width, max_pixels)
    if header.precision != 8:
        raise DecodeError("unsupported", f"a JPEG of {header.precision} bits a channel")
    if header.components == 4:
        inks = _decode_strictly(data, "CMYK")
        pixels = rgb_from_inks(inks if header.adobe else 255 - inks)
    else:
        pixels = _decode_strictly(data, "RGB")
    return upright(pixels, header.exif) if header.exif else pixels


def rgb_from_inks(inverted: np.ndarray) -> np.ndarray:
    """Convert inverted CMYK `[H, W, 4]` to RGB `[H, W, 3]`: each of C, M, Y times K over 255,
    rounded.
    """
    return darken(inverted[..., :3], inverted[..., 3:])


def darken(colors: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Compute uint8 `colors` times uint8 `factor` over 255, rounded."""
    return ((colors.astype(np.uint16) * factor + 127) // 255).astype(np.uint8)


def _decode_strictly(data: bytes, colors: str) -> np.ndarray:
    try:
        return simplejpeg.decode_jpeg(data, colors)
    except ValueError as error:
        message = str(error)
        if message.startswith("Premature end"):
            raise DecodeError("truncated", message) from error
        if message.startswith("Corrupt JPEG data"):
            if _only_padding(data, message):
                return simplejpeg.decode_jpeg(data, colors, strict=False)
            raise DecodeError("corrupt", message) from error
        raise UnusualJpegError(message) from error


def _only_padding(data: bytes, message: str) -> bool:
    """Whether the bytes that the decoder did not use are zeros before the end marker."""
    surplus = _PADDING.search(message)
    if surplus is None:
        return False
    end = data.rfind(b"\xff\xd9")
    return not data[end - int(surplus[1]) : end].strip(b"\0")
