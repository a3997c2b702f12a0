"""Decode image files to RGB, strictly: refuse a damaged picture instead of returning half of it in
gray.
"""

import io
import re
import struct
import zlib

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pipeline.archive.decoding import jpeg
from pipeline.archive.decoding.exif import upright
from pipeline.archive.decoding.signatures import HEAD, JPEG, PNG, kind_of
from pipeline.archive.faults import DecodeError, check_pixels
from pipeline.archive.limits import MAX_PIXELS

_CUT_OFF = re.compile("truncated|not enough|reached eof|requires a buffer|no more images", re.I)
# Plugins are called by name, because Image.open would warn of large pictures before we refuse them.
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "ppm": PpmImagePlugin.PpmImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "jpeg2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}
_NOT_READ = {
    "heif": "a HEIF picture, as iPhones take them, is not read: convert it to JPEG or PNG (with"
    " heif-convert or ImageMagick), or set the phone's camera to its most compatible format",
    "jxl": "a JPEG XL picture is not read: convert it to JPEG or PNG (with djxl or ImageMagick)",
}
_DEEP = ("I", "F")
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)
"""The EXIF tag that says how a camera was held, and its values for a quarter turn."""
Stretch = tuple[float, float]
"""The counts that become black and white in pictures with more than 8 bits per pixel."""


def decode(
    data: bytes, *, max_pixels: int = MAX_PIXELS, stretch: Stretch | None = None
) -> np.ndarray:
    """Decode the picture in an image file's bytes to RGB.

    Return a new contiguous uint8 array `[H, W, 3]` with the EXIF orientation applied. The formats
    are JPEG (also MPO), PNG, GIF, WebP, BMP, TIFF, PPM, JPEG 2000 and AVIF; the content decides,
    not the name. Of several frames the first is decoded. JPEG pixels equal Pillow's to the bit.
    Gray becomes three equal channels. Of 16 bits the high 8 are kept (65,535 becomes 255), unless
    `stretch` gives the counts that become 0 and 255; pixels of 32 bits and of floats need
    `stretch`. CMYK is R = C K / 255 of the inverted inks: a JPEG with an Adobe marker stores
    inverted inks, one without does not. Transparent parts are put on black. Color profiles are not
    applied.

    Raise DecodeError for damaged bytes, and for a picture of more than `max_pixels`; the size comes
    from its header, so none of its pixels are decoded. Several threads may call this at once.

    >>> decode(b"P6 1 1 255 abc").tolist()
    [[[97, 98, 99]]]
    """
    if not data:
        raise DecodeError("empty", "the file has no bytes")
    if data.startswith(JPEG):
        try:
            return jpeg.decode(data, max_pixels)
        except jpeg.UnusualJpegError:
            pass  # such as an unusual subsampling, which Pillow may know
    plugin = _plugin(data)
    if data.startswith(PNG):
        _check_png(data)
    try:
        with plugin(io.BytesIO(data)) as image:
            check_pixels(image.height, image.width, max_pixels)
            image.load()
            pixels = _rgb(image, stretch)
            tags = image.info.get("exif", b"")  # Pillow turns TIFF itself and leaves them out
    except (DecodeError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DecodeError("too-large", str(error)) from error
    except Exception as error:  # Pillow raises errors of every kind for damaged files
        told = f"{type(error).__name__}: {error}"
        reason = "truncated" if _CUT_OFF.search(told) else "corrupt"
        raise DecodeError(reason, told) from error
    return upright(pixels, tags)


def upright_size(data: bytes) -> tuple[int, int]:
    """Read width and height of a picture from its header, with the EXIF orientation applied.

    Raise DecodeError if the bytes are not a picture, or its header is damaged.

    >>> upright_size(b"P6 2 1 255 abcdef")
    (2, 1)
    """
    plugin = _plugin(data)
    try:
        with plugin(io.BytesIO(data)) as image:
            turned = image.getexif().get(_ORIENTATION, 1) in _TURNED
            return (image.height, image.width) if turned else (image.width, image.height)
    except Exception as error:  # Pillow raises errors of every kind for damaged files
        raise DecodeError("corrupt", f"{type(error).__name__}: {error}") from error


def lowest_and_highest(data: bytes) -> tuple[float, float] | None:
    """The least and the greatest count in a picture with more than 8 bits per pixel; None for
    others.

    Raise the errors of `decode` if the bytes are not a picture.
    """
    with _plugin(data)(io.BytesIO(data)) as image:
        if not (image.mode.startswith("I;16") or image.mode in _DEEP):
            return None
        counts = np.asarray(image)
        return float(counts.min()), float(counts.max())


def _plugin(data: bytes) -> type[ImageFile.ImageFile]:
    kind = kind_of(data[:HEAD])
    if kind is None:
        raise DecodeError(
            "not-an-image", f"it begins with {data[:12]!r}, like no known image format"
        )
    if kind in _NOT_READ:
        raise DecodeError("unsupported", _NOT_READ[kind])
    if kind == "webp" and int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise DecodeError("truncated", "the file is shorter than its header says")
    return _PLUGINS[kind]


def _check_png(data: bytes) -> None:
    """Compare all checksums, because Pillow ignores those of the pixels."""
    position, kind = len(PNG), b""
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


def _rgb(image: ImageFile.ImageFile, stretch: Stretch | None) -> np.ndarray:
    """Convert the picture's pixels to RGB `[H, W, 3]`, whatever its mode."""
    mode = image.mode
    if mode.startswith("I;16") or mode in _DEEP:
        return np.repeat(_gray(image, stretch)[..., None], 3, axis=2)
    if mode == "LAB":
        raise DecodeError("unsupported", f"pixels of kind {mode} have no stated range of RGB")
    if image.has_transparency_data:
        layered = np.asarray(image.convert("RGBA"))
        return jpeg.darken(layered[..., :3], layered[..., 3:])
    return np.array(image.convert("RGB"))


def _gray(image: ImageFile.ImageFile, stretch: Stretch | None) -> np.ndarray:
    """Convert counts of more than 8 bits to gray levels `[H, W]`."""
    counts = np.asarray(image)
    if stretch is not None:
        low, high = stretch
        share = np.nan_to_num((counts.astype(np.float64) - low) / (high - low))
        return np.rint(255 * share.clip(0, 1)).astype(np.uint8)
    if image.mode in _DEEP and image.format != "PPM":
        raise DecodeError(
            "unsupported",
            f"pixels of kind {image.mode} have no stated range: say with `stretch` which counts are"
            " black and white",
        )
    return (counts >> 8).astype(np.uint8)
