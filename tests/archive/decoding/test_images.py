import io
import struct

import numpy as np
import pytest
from PIL import Image

from pipeline.archive.decoding import jpeg
from pipeline.archive.decoding.images import decode, lowest_and_highest, upright_size
from pipeline.archive.faults import DecodeError
from tests.archive.pictures import LOSSLESS, NOISE, SMOOTH, encode, png


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


def test_jpegs_stored_as_gray_and_as_rgb_equal_pillows():
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
    colors, factors = np.meshgrid(np.arange(256), np.arange(256))
    expected = np.rint(colors * factors / 255)
    darkened = jpeg.darken(colors.astype(np.uint8), factors.astype(np.uint8))
    assert np.array_equal(darkened, expected)


LEVELS = np.array([0, 128, 255, 256, 1000, 32768, 65280, 65535], ">u2")


def test_sixteen_bit_gray_is_scaled_and_not_clipped():
    pixels = decode(png(8, 1, 16, 0, [LEVELS.tobytes()]))
    assert pixels[0, :, 0].tolist() == [0, 0, 0, 1, 3, 128, 255, 255]
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_sixteen_bit_gray_and_color_agree():
    gray = decode(png(8, 1, 16, 0, [LEVELS.tobytes()]))
    color = decode(png(8, 1, 16, 2, [np.repeat(LEVELS, 3).tobytes()]))
    tiff = decode(encode(Image.fromarray(LEVELS.astype("<u2")[None]), "TIFF"))
    pgm = decode(b"P5 8 1 65535\n" + LEVELS.tobytes())
    assert np.array_equal(gray, color)
    assert np.array_equal(gray, tiff)
    assert np.array_equal(gray, pgm)


def test_eight_bits_made_sixteen_come_back():
    wide = (np.arange(256, dtype=np.uint16) * 257).astype(">u2")
    assert decode(png(256, 1, 16, 0, [wide.tobytes()]))[0, :, 0].tolist() == list(range(256))


@pytest.mark.parametrize("mode", ["1", "L"])
def test_gray_becomes_three_equal_channels(mode):
    gray = SMOOTH.convert(mode)
    pixels = decode(encode(gray, "PNG"))
    assert np.array_equal(pixels, np.asarray(gray.convert("RGB")))
    assert np.array_equal(pixels[..., 0], pixels[..., 1])


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_becomes_its_colors(kind):
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


def test_transparent_gray_and_transparent_colors_lie_over_black():
    gray = np.array([[[200, 255], [200, 0]]], np.uint8)
    assert decode(encode(Image.fromarray(gray, "LA"), "PNG"))[..., 0].tolist() == [[200, 0]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    for kind in ("PNG", "GIF"):
        pixels = decode(encode(palette, kind, transparency=1))
        assert pixels.tolist() == [[[10, 20, 30], [0, 0, 0]]]
    keyed = png(2, 1, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], (b"tRNS", bytes([0, 4, 0, 5, 0, 6])))
    assert decode(keyed).tolist() == [[[1, 2, 3], [0, 0, 0]]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_taken(kind):
    red, blue = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(red, kind, save_all=True, append_images=[blue], **options)
    assert (decode(data) == (255, 0, 0)).all()


def test_a_picture_of_one_pixel():
    for kind in LOSSLESS:
        assert decode(encode(Image.new("RGB", (1, 1), "red"), kind)).tolist() == [[[255, 0, 0]]]


def test_counts_that_a_stretch_names_become_black_and_white():
    counts = np.array([[6000, 7000, 7300], [7600, 9000, 7002]], np.uint16)
    data = encode(Image.fromarray(counts), "PNG")
    assert decode(data)[..., 0].tolist() == [[23, 27, 28], [29, 35, 27]]
    assert decode(data, stretch=(7000, 7600))[..., 0].tolist() == [[0, 0, 128], [255, 255, 1]]


def test_a_stretch_changes_nothing_of_pictures_with_8_bits():
    for image in (SMOOTH, SMOOTH.convert("L")):
        data = encode(image, "PNG")
        assert np.array_equal(decode(data), decode(data, stretch=(7000, 7600)))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_without_a_stated_range_are_read_by_a_stretch_alone(kind):
    data = encode(Image.fromarray(np.array([[1, 2, 3]], kind)), "TIFF")
    with pytest.raises(DecodeError, match="`stretch`"):
        decode(data)
    assert decode(data, stretch=(1, 3))[0, :, 0].tolist() == [0, 128, 255]


def test_the_range_of_counts_is_told_of_deep_pictures_alone():
    deep = Image.fromarray(np.array([[7000, 7600]], np.uint16))
    assert lowest_and_highest(encode(deep, "PNG")) == (7000, 7600)
    assert lowest_and_highest(encode(SMOOTH, "PNG")) is None
    assert lowest_and_highest(encode(SMOOTH, "JPEG")) is None


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000"])
def test_pictures_of_newer_formats_are_read_and_turned(kind):
    options = {"lossless": True} if kind == "JPEG2000" else {"quality": 100, "subsampling": "4:4:4"}
    if kind == "JPEG2000":
        options = {"irreversible": False}
    pixels = decode(encode(SMOOTH, kind, **options))
    assert np.abs(pixels.astype(int) - np.asarray(SMOOTH)).max() <= 4
    cut = encode(SMOOTH, kind)[:-40]
    with pytest.raises(DecodeError):
        decode(cut)


def test_the_orientation_of_an_avif_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode(encode(SMOOTH, "AVIF", exif=exif))
    assert turned.shape == (67, 129, 3)


def test_a_stereo_picture_is_read_as_its_first_view():
    data = encode(SMOOTH, "MPO", save_all=True, append_images=[NOISE])
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("kind", [*LOSSLESS, "GIF", "WEBP", "JPEG"])
def test_the_size_is_known_without_decoding(kind):
    data = encode(SMOOTH, kind)
    assert upright_size(data) == SMOOTH.size
    exif = Image.Exif()
    exif[0x0112] = 6
    if kind in ("JPEG", "WEBP"):
        assert upright_size(encode(SMOOTH, kind, exif=exif)) == SMOOTH.size[::-1]


def test_a_damaged_header_has_no_size():
    with pytest.raises(DecodeError, match="corrupt"):
        upright_size(encode(SMOOTH, "PNG")[:20])
