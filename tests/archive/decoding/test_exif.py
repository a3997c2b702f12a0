import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.archive.decoding.exif import orientation, upright

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
SHORT = bytes.fromhex("4949 2a00 08000000 0100 1201 0300 01000000 06000000")


def exif(value, order="<"):
    block = Image.Exif()
    block.endian = order
    block[0x010F] = "maker"
    block[0x0112] = value
    return block.tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_all_eight_orientations_are_applied_as_pillow_does(value, order):
    block = exif(value, order)
    assert orientation(block) == value
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG", exif=block)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    assert np.array_equal(upright(PIXELS, block), expected)
    assert upright(PIXELS, block).flags.c_contiguous


def test_six_turns_a_quarter_clockwise():
    column = np.array([[[1]], [[2]]], np.uint8)
    assert upright(column, SHORT).tolist() == [[[2], [1]]]


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_without_meaning_is_upright(value):
    assert orientation(exif(value)) == 1
    assert np.array_equal(upright(PIXELS, exif(value)), PIXELS)


def test_a_long_value_is_read():
    block = bytes.fromhex("4d4d 002a 00000008 0001 0112 0004 00000001 00000006")
    assert orientation(block) == 6


def test_damaged_blocks_tell_nothing():
    whole = exif(6)
    for end in range(len(whole) - 24):
        assert orientation(whole[:end]) == 1
    assert [orientation(SHORT[:end]) for end in (20, 21, 22)] == [1, 1, 6]
    for block in (b"", b"Exif\0\0" + b"\xff" * 40, b"II*\0" + b"\xff" * 40):
        assert orientation(block) == 1
        assert np.array_equal(upright(PIXELS, block), PIXELS)
