"""Files that are refused, and what refusing costs."""

import io
import pickle
import resource
import struct
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.archive.decoding.images import DecodeError, decode
from tests.archive.pictures import LOSSLESS, NOISE, SMOOTH, encode, png, refusal


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am a text\n" * 9, "not-an-image"),
        (b"\0" * 4096, "not-an-image"),
        (b"<html>not found</html>", "not-an-image"),
        (b"\xff\xd8", "truncated"),
        (b"\xff\xd8\xff", "truncated"),
        (b"\xff\xd8" + b"x" * 500, "truncated"),
        (b"\xff\xd8\xff\xd9" + b"x" * 500, "corrupt"),
        (b"\0\0\0\x20ftypheic" + b"x" * 500, "unsupported"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"GIF89a", "truncated"),
        (b"BM", "truncated"),
        (b"P6 3 3 255\n", "truncated"),
        (b"P6 x", "corrupt"),
        (b"II*\0" + b"\xff" * 50, "corrupt"),
        (b"RIFF\x04\0\0\0WEBP", "corrupt"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning")
def test_what_is_no_picture_is_refused_with_its_reason(data, reason):
    assert refusal(data) == reason


def test_the_number_of_bits_of_a_jpeg_is_checked():
    data = bytearray(encode(SMOOTH, "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    assert refusal(bytes(data)) == "unsupported"


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_pixels_without_a_range_are_refused(mode):
    assert refusal(encode(Image.new(mode, (4, 4)), "TIFF")) == "unsupported"


def test_a_picture_without_height_is_refused():
    data = bytearray(encode(SMOOTH, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 7] = b"\0\0"
    assert refusal(bytes(data)) == "corrupt"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_cut_off_anywhere_is_truncated(mode, progressive):
    data = encode(SMOOTH.convert(mode), "JPEG", progressive=progressive)
    for length in [*range(2, 40), *range(40, len(data), 53), len(data) - 2, len(data) - 1]:
        assert refusal(data[:length]) == "truncated", length


def test_pillow_and_simplejpeg_agree_on_what_is_truncated():
    data = encode(SMOOTH, "JPEG")
    for length in range(700, len(data), 61):
        with pytest.raises(OSError, match="truncated"):
            Image.open(io.BytesIO(data[:length])).load()
        assert refusal(data[:length]) == "truncated"


def test_bytes_behind_the_end_are_no_damage():
    data = encode(SMOOTH, "JPEG")
    assert np.array_equal(decode(data + b"\0" * 99), decode(data))
    assert np.array_equal(decode(data + b"camera maker"), decode(data))


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_zeros_that_a_camera_puts_before_the_end_are_no_damage(count):
    data = encode(SMOOTH, "JPEG")
    padded = data[:-2] + b"\0" * count + data[-2:]
    assert np.array_equal(decode(padded), decode(data))


def test_every_damage_that_libjpeg_notices_is_refused():
    data = encode(SMOOTH, "JPEG", quality=95)
    told = set()
    for position in range(data.index(b"\xff\xda") + 20, len(data) - 2, 5):
        damaged = bytearray(data)
        damaged[position] ^= 16
        try:
            simplejpeg.decode_jpeg(bytes(damaged), "RGB")
        except ValueError as error:
            told.add(str(error)[:30])
            assert refusal(bytes(damaged)) in ("corrupt", "truncated")
    assert len(told) > 2, told


def test_other_bytes_before_the_end_are_damage():
    data = encode(SMOOTH, "JPEG")
    assert refusal(data[:-2] + b"abcdefghij" + data[-2:]) == "corrupt"


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning")
def test_other_files_cut_off_in_their_pixels_are_truncated(kind):
    data = encode(SMOOTH.resize((64, 64)), kind)  # no padding behind a row
    for length in (len(data) // 3, len(data) // 2, len(data) - 1):
        assert refusal(data[:length]) == "truncated"


def test_a_png_of_which_one_bit_is_wrong_is_corrupt():
    data = encode(SMOOTH, "PNG")
    for position in range(8, len(data), 97):
        damaged = bytearray(data)
        damaged[position] ^= 4
        assert refusal(bytes(damaged)) in ("corrupt", "truncated"), position


def huge(kind, side=30_000):
    if kind == "JPEG":
        data = bytearray(encode(Image.new("RGB", (8, 8)), "JPEG"))
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
        return bytes(data)
    if kind == "PNG":
        return png(side, side, 8, 2, [b"\0" * 3 * side])
    if kind == "GIF":
        data = bytearray(encode(Image.new("RGB", (8, 8)), "GIF"))
        data[6:10] = struct.pack("<HH", side, side)
        return bytes(data)
    if kind == "BMP":
        data = bytearray(encode(Image.new("RGB", (8, 8)), "BMP"))
        data[18:26] = struct.pack("<ii", side, side)
        return bytes(data)
    if kind == "TIFF":
        data = encode(Image.new("RGB", (8, 8)), "TIFF")
        for tag in (0x0100, 0x0101):
            entry = struct.pack("<HHI", tag, 4, 1)
            assert entry in data
            data = data.replace(entry + struct.pack("<I", 8), entry + struct.pack("<I", side))
        return data
    if kind == "WEBP":
        frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
        data = bytearray(encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
        at = data.index(b"VP8X") + 12
        data[at : at + 6] = (side - 1).to_bytes(3, "little") * 2
        return bytes(data)
    return b"P6 %d %d 255\n" % (side, side)


# Pillow warns from 89 million pixels on and refuses from 178 million on: 10,000 lies between.
@pytest.mark.parametrize("side", [10_000, 16_000, 30_000])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_huge_picture_is_refused_from_its_header(kind, side):
    data = huge(kind, side)
    assert len(data) < 200_000
    decode(SAMPLES["WEBP"])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert refusal(data) == "too-large"
    assert time.perf_counter() - start < 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 50_000
    assert not told


def test_the_largest_size_can_be_chosen():
    for kind in ("PNG", "JPEG"):
        data = encode(SMOOTH, kind)
        assert decode(data, max_pixels=67 * 129).shape == (129, 67, 3)
        assert refusal(data, max_pixels=67 * 129 - 1) == "too-large"


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "GIF", "WEBP", "JPEG"])
def test_a_picture_above_pillows_own_warning_is_decoded_without_it(kind, monkeypatch):
    data = encode(SMOOTH, kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 67 * 129 - 1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert decode(data).shape == (129, 67, 3)
    assert not told


def test_threads_do_not_disturb_each_other():
    images = [NOISE.resize((40 + 3 * step, 30 + 5 * step)) for step in range(8)]
    files = [encode(image, kind) for image in images for kind in ("JPEG", "PNG", "GIF", "WEBP")]
    files += [data[: len(data) // 2] for data in files]

    def outcome(data):
        try:
            return decode(data).tobytes()
        except DecodeError as error:
            return error.args

    alone = [outcome(data) for data in files]
    barrier = threading.Barrier(8)

    def work(_):
        barrier.wait()
        return [outcome(data) for data in files]

    with ThreadPoolExecutor(8) as pool:
        assert all(result == alone for result in pool.map(work, range(8)))


def test_a_refusal_travels_between_processes():
    error = pickle.loads(pickle.dumps(DecodeError("corrupt", "its header lies")))
    assert (error.reason, error.detail, str(error)) == (
        *("corrupt", "its header lies", "corrupt: its header lies"),
    )


SAMPLES = {
    **{kind: encode(SMOOTH.resize((20, 30)), kind) for kind in (*LOSSLESS, "GIF", "WEBP", "JPEG")},
    "CMYK": encode(SMOOTH.resize((20, 30)).convert("CMYK"), "JPEG"),
    "LZW": encode(SMOOTH.resize((20, 30)), "TIFF", compression="tiff_lzw"),
    "PALETTE": encode(SMOOTH.resize((20, 30)).quantize(9), "PNG"),
}
REASONS = {"empty", "not-an-image", "truncated", "corrupt", "too-large", "unsupported"}


@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning")
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    st.integers(0, 10**6),
)
def test_whatever_the_bytes_there_is_a_picture_or_a_reason(kind, changes, cut):
    data = bytearray(SAMPLES[kind])
    for position, value in changes:
        data[position % len(data)] = value
    data = bytes(data[: cut or None])
    try:
        pixels = decode(data, max_pixels=10**6)
    except DecodeError as error:
        assert error.reason in REASONS
        assert error.detail
    else:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3


@given(st.binary(max_size=200), st.sampled_from([b"", *(data[:24] for data in SAMPLES.values())]))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_bytes_are_refused(data, start):
    try:
        decode(start + data, max_pixels=10**6)
    except DecodeError as error:
        assert error.reason in REASONS
