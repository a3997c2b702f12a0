"""Small pictures as files, and the reason for which one is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.archive.decoding.images import DecodeError, decode

RNG = np.random.default_rng(7)
NOISE = Image.fromarray(RNG.integers(0, 256, (12, 9, 3), dtype=np.uint8))
SMOOTH = NOISE.resize((67, 129), Image.Resampling.BICUBIC)
LOSSLESS = ["PNG", "BMP", "TIFF", "PPM"]


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def refusal(data, **options):
    with pytest.raises(DecodeError) as caught:
        decode(data, **options)
    return caught.value.reason


def png(width, height, depth, color, rows, *extra):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    picture = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", picture), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)
