"""Decode image files to RGB, strictly: a picture that is damaged is refused, never half gray."""

import io
import re
import struct
import zlib

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pipeline.archive.decoding import jpeg
from pipeline.archive.decoding.exif import upright
from pipeline.archive.faults import DecodeError, check_pixels
from pipeline.archive.limits import MAX_PIXELS

_PNG = b"\x89PNG\r\n\x1a\n"
_PPM = tuple(b"P%d%c" % (kind, space) for kind in range(1, 7) for space in b" \t\r\n#")
_CUT_OFF = re.compile("truncated|not enough|reached eof|requires a buffer|no more images", re.I)
# The plugins are called by name: Image.open would warn of large pictures before they are refused.
_PLUGINS: tuple[tuple[tuple[bytes, ...], type[ImageFile.ImageFile]], ...] = (
    ((_PNG,), PngImagePlugin.PngImageFile),
    ((b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
    ((b"BM",), BmpImagePlugin.BmpImageFile),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImagePlugin.TiffImageFile),
    (_PPM, PpmImagePlugin.PpmImageFile),
    ((jpeg.SIGNATURE,), JpegImagePlugin.JpegImageFile),
)


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The picture in an image file's bytes, as RGB.

    Returns a new contiguous uint8 array `[H, W, 3]`, the EXIF orientation applied. JPEG, PNG, GIF,
    WebP, BMP, TIFF and PPM are read, by content and not by name; of several frames the first. JPEG
    pixels equal Pillow's to the bit. Gray becomes three equal channels; of 16 bits the high 8 are
    kept (65,535 becomes 255); CMYK is R = C K / 255 of the inverted inks, which is how a JPEG with
    an Adobe marker stores them and one without does not; transparent parts are laid over black.
    Color profiles are not applied.

    Raises DecodeError, also for a picture of more than `max_pixels`, which is told from its header
    before any pixel is decoded. Safe to call from several threads at once.

    >>> decode(b"P6 1 1 255 abc").tolist()
    [[[97, 98, 99]]]
    """
    if not data:
        raise DecodeError("empty", "the file has no bytes")
    if data.startswith(jpeg.SIGNATURE):
        try:
            return jpeg.decode(data, max_pixels)
        except jpeg.UnusualJpegError:
            pass  # such as an odd subsampling: Pillow knows more of them
    plugin = _plugin(data)
    if data.startswith(_PNG):
        _check_png(data)
    try:
        with plugin(io.BytesIO(data)) as image:
            check_pixels(image.height, image.width, max_pixels)
            image.load()
            pixels = _rgb(image)
            tags = image.info.get("exif", b"")  # Pillow turns TIFF itself and leaves them out
    except (DecodeError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DecodeError("too-large", str(error)) from error
    except Exception as error:  # Pillow meets damaged files with errors of every kind
        told = f"{type(error).__name__}: {error}"
        reason = "truncated" if _CUT_OFF.search(told) else "corrupt"
        raise DecodeError(reason, told) from error
    return upright(pixels, tags)


def _plugin(data: bytes) -> type[ImageFile.ImageFile]:
    for signatures, plugin in _PLUGINS:
        if data.startswith(signatures):
            return plugin
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        if int.from_bytes(data[4:8], "little") + 8 > len(data):
            raise DecodeError("truncated", "the file is shorter than its header says")
        return WebPImagePlugin.WebPImageFile
    if data[4:8] == b"ftyp":
        raise DecodeError("unsupported", "HEIF and AVIF are not read; convert it to JPEG or PNG")
    raise DecodeError("not-an-image", f"it begins with {data[:12]!r}, like no known image format")


def _check_png(data: bytes) -> None:
    """Compare all checksums: Pillow passes over those of the pixels."""
    position, kind = len(_PNG), b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise DecodeError("truncated", "the file ends before its last chunk")
        length, kind = struct.unpack_from(">I4s", data, position)
        name = kind.decode("latin-1")
        end = position + 8 + length
        if end + 4 > len(data):
            raise DecodeError("truncated", f"the file ends in its chunk {name}")
        if zlib.crc32(data[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise DecodeError("corrupt", f"the checksum of its chunk {name} is wrong")
        position = end + 4


def _rgb(image: ImageFile.ImageFile) -> np.ndarray:
    """The picture's pixels as RGB `[H, W, 3]`, whatever its mode."""
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format == "PPM"):
        gray = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if mode in ("I", "F", "LAB"):
        raise DecodeError("unsupported", f"pixels of kind {mode} have no stated range of RGB")
    if image.has_transparency_data:
        layered = np.asarray(image.convert("RGBA"))
        return jpeg.darken(layered[..., :3], layered[..., 3:])
    return np.array(image.convert("RGB"))
