import io
import pickle
import resource
import struct
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.archive import jpeg
from pipeline.archive.decoding import DecodeError, decode

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


@pytest.mark.parametrize("kind", LOSSLESS)
def test_pixels_of_lossless_files_come_back(kind):
    pixels = decode(encode(SMOOTH, kind))
    assert np.array_equal(pixels, np.asarray(SMOOTH))


@pytest.mark.parametrize("kind", [*LOSSLESS, "GIF", "WEBP", "JPEG"])
def test_every_kind_gives_a_new_contiguous_rgb_array(kind):
    pixels = decode(encode(SMOOTH, kind))
    assert (pixels.shape, pixels.dtype) == ((129, 67, 3), np.uint8)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(67, 129), (1, 1), (8, 8), (17, 1)])
def test_jpeg_pixels_equal_pillows_to_the_bit(size, subsampling, progressive):
    data = encode(
        SMOOTH.resize(size), "JPEG", subsampling=subsampling, progressive=progressive, quality=85
    )
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_jpegs_stored_as_grey_and_as_rgb_equal_pillows():
    for data in (encode(SMOOTH.convert("L"), "JPEG"), encode(SMOOTH, "JPEG", keep_rgb=True)):
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(decode(data), expected)


def test_real_crops_equal_pillows(pedestrians):
    for path in sorted(pedestrians.glob("query/*.jpg"))[:20]:
        assert np.array_equal(decode(path.read_bytes()), np.asarray(Image.open(path)))


def test_a_jpeg_that_simplejpeg_does_not_know_is_decoded_by_pillow():
    odd = bytearray(encode(SMOOTH, "JPEG", subsampling="4:4:4"))
    frame = odd.index(b"\xff\xc0")
    # Luminance 2 x 1, blue 1 x 1, red 2 x 1: no subsampling that has a name.
    odd[frame + 11], odd[frame + 17] = 0x21, 0x21
    data = bytes(odd)
    with pytest.raises(jpeg.UnusualJpegError):
        jpeg.decode(data, 10**6)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode(data), expected)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_exif_orientation_is_applied(kind, value):
    block = Image.Exif()
    block[0x0112] = value
    corner = Image.new("RGB", (48, 32), "black")
    corner.paste((255, 255, 255), (0, 0, 16, 16))
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode(encode(corner, kind, exif=block, **options))
    assert pixels.shape == ((32, 48, 3) if value < 5 else (48, 32, 3))
    white = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
    row, column = white[value]
    assert pixels[-row, -column].min() > 250
    assert pixels[row - 1, column - 1].max() < 5


def test_exif_behind_another_segment_is_found():
    block = Image.Exif()
    block[0x0112] = 6
    data = encode(SMOOTH, "JPEG", exif=block)
    comment = b"\xff\xfe" + struct.pack(">H", 40_002) + b"\xff" * 40_000
    assert decode(data[:2] + comment + data[2:]).shape == (67, 129, 3)


def test_a_picture_inside_a_segment_is_not_taken_for_the_picture():
    data = encode(SMOOTH, "JPEG")
    thumbnail = encode(NOISE, "JPEG")
    segment = b"\xff\xe2" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    assert jpeg.read_header(data[:2] + segment + data[2:]) == jpeg.read_header(data)
    assert np.array_equal(decode(data[:2] + segment + data[2:]), decode(data))


def test_darkening_rounds_to_the_nearest():
    colours, factors = np.meshgrid(np.arange(256), np.arange(256))
    expected = np.rint(colours * factors / 255)
    darkened = jpeg.darken(colours.astype(np.uint8), factors.astype(np.uint8))
    assert np.array_equal(darkened, expected)


def png(width, height, depth, colour, rows, *extra):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    picture = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", picture), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)


LEVELS = np.array([0, 128, 255, 256, 1000, 32768, 65280, 65535], ">u2")


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    pixels = decode(png(8, 1, 16, 0, [LEVELS.tobytes()]))
    assert pixels[0, :, 0].tolist() == [0, 0, 0, 1, 3, 128, 255, 255]
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_sixteen_bit_grey_and_colour_agree():
    grey = decode(png(8, 1, 16, 0, [LEVELS.tobytes()]))
    colour = decode(png(8, 1, 16, 2, [np.repeat(LEVELS, 3).tobytes()]))
    tiff = decode(encode(Image.fromarray(LEVELS.astype("<u2")[None]), "TIFF"))
    pgm = decode(b"P5 8 1 65535\n" + LEVELS.tobytes())
    assert np.array_equal(grey, colour)
    assert np.array_equal(grey, tiff)
    assert np.array_equal(grey, pgm)


def test_eight_bits_made_sixteen_come_back():
    wide = (np.arange(256, dtype=np.uint16) * 257).astype(">u2")
    assert decode(png(256, 1, 16, 0, [wide.tobytes()]))[0, :, 0].tolist() == list(range(256))


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_becomes_three_equal_channels(mode):
    grey = SMOOTH.convert(mode)
    pixels = decode(encode(grey, "PNG"))
    assert np.array_equal(pixels, np.asarray(grey.convert("RGB")))
    assert np.array_equal(pixels[..., 0], pixels[..., 1])


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_becomes_its_colours(kind):
    few = SMOOTH.quantize(16)
    assert np.array_equal(decode(encode(few, kind)), np.asarray(few.convert("RGB")))


INKS = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255], [51, 0, 0, 102]]])
INKED = [[255, 255, 255], [0, 255, 255], [255, 0, 0], [0, 0, 0], [122, 153, 153]]


def test_cmyk_becomes_rgb():
    image = Image.fromarray(INKS.astype(np.uint8), "CMYK")
    assert decode(encode(image, "TIFF"))[0].tolist() == INKED


def test_a_cmyk_jpeg_of_adobe_holds_its_inks_inverted():
    image = Image.fromarray(INKS.astype(np.uint8), "CMYK").resize(
        (80, 16), Image.Resampling.NEAREST
    )
    data = encode(image, "JPEG", quality=100)
    assert b"Adobe" in data
    assert np.abs(decode(data)[8, 8::16].astype(int) - INKED).max() <= 2
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def without_segment(data, marker):
    start = data.index(b"\xff" + marker)
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4]) :]


def test_a_cmyk_jpeg_without_adobes_marker_holds_them_as_they_are():
    image = Image.fromarray(255 - INKS.astype(np.uint8), "CMYK")
    data = encode(image.resize((80, 16), Image.Resampling.NEAREST), "JPEG", quality=100)
    plain = without_segment(data, b"\xee")
    assert b"Adobe" not in plain
    assert np.abs(decode(plain)[8, 8::16].astype(int) - INKED).max() <= 2


def test_a_ycck_jpeg_equals_pillows():
    data = bytearray(encode(SMOOTH.convert("CMYK"), "JPEG"))
    data[data.index(b"Adobe") + 11] = 2  # the same samples, now said to be YCCK
    expected = np.asarray(Image.open(io.BytesIO(bytes(data))).convert("RGB"))
    assert np.array_equal(decode(bytes(data)), expected)


def test_transparent_parts_lie_over_black():
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 128]]], np.uint8)
    for kind in ("PNG", "TIFF"):
        pixels = decode(encode(Image.fromarray(rgba), kind))
        assert pixels.tolist() == [[[200, 100, 50], [0, 0, 0], [100, 50, 25]]]
    exact = decode(encode(Image.fromarray(rgba), "WEBP", lossless=True, exact=True))
    assert exact.tolist() == [[[200, 100, 50], [0, 0, 0], [100, 50, 25]]]


def test_transparent_grey_and_transparent_colours_lie_over_black():
    grey = np.array([[[200, 255], [200, 0]]], np.uint8)
    assert decode(encode(Image.fromarray(grey, "LA"), "PNG"))[..., 0].tolist() == [[200, 0]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    for kind in ("PNG", "GIF"):
        pixels = decode(encode(palette, kind, transparency=1))
        assert pixels.tolist() == [[[10, 20, 30], [0, 0, 0]]]
    keyed = png(2, 1, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], (b"tRNS", bytes([0, 4, 0, 5, 0, 6])))
    assert decode(keyed).tolist() == [[[1, 2, 3], [0, 0, 0]]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_taken(kind):
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(red, kind, save_all=True, append_images=[blue], **options)
    assert (decode(data) == (255, 0, 0)).all()


def test_a_picture_of_one_pixel():
    for kind in LOSSLESS:
        assert decode(encode(Image.new("RGB", (1, 1), "red"), kind)).tolist() == [[[255, 0, 0]]]


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
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
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
