import pytest

from pipeline.archive.decoding.images import decode
from pipeline.archive.decoding.signatures import is_surely_image, kind_of
from pipeline.archive.faults import DecodeError
from tests.archive.pictures import SMOOTH, encode

FTYP = b"\0\0\0\x18ftyp%s\0\0\0\0%smiaf"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("JPEG", "jpeg"), ("PNG", "png"), ("GIF", "gif"), ("BMP", "bmp"), ("TIFF", "tiff")),
        *(("PPM", "ppm"), ("WEBP", "webp"), ("AVIF", "avif"), ("JPEG2000", "jpeg2000")),
        ("MPO", "jpeg"),
    ],
)
def test_what_is_written_is_told_by_its_first_bytes(kind, name):
    data = encode(SMOOTH, kind)
    assert kind_of(data[:64]) == name
    assert is_surely_image(data[:64])


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (FTYP % (b"heic", b"mif1"), "heif"),
        (FTYP % (b"mif1", b"avif"), "avif"),
        (FTYP % (b"mif1", b"heic"), "heif"),
        (FTYP % (b"isom", b"mp41"), None),
        (FTYP % (b"qt  ", b"qt  "), None),
        (b"\xff\x0a\x10\xb0", "jxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
        (b"", None),
    ],
)
def test_formats_in_boxes_are_told_by_their_brands(head, kind):
    assert kind_of(head) == kind


@pytest.mark.parametrize("text", [b"BMW drives by", b"P1 is the first", b"hello", b""])
def test_a_text_that_begins_like_an_image_is_none(text):
    assert not is_surely_image(text)


@pytest.mark.parametrize(
    ("head", "advice"),
    [(FTYP % (b"heic", b"mif1"), "heif-convert"), (b"\xff\x0a\x10\xb0", "djxl")],
)
def test_what_is_not_read_is_a_reject_that_says_what_to_do(head, advice):
    with pytest.raises(DecodeError, match=f"convert it to JPEG or PNG .*{advice}") as caught:
        decode(head)
    assert caught.value.reason == "unsupported"
