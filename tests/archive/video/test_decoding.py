"""Boxes of encoded videos are cut from the frames that a plain loop decodes."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.archive.faults import ReadError, Rejected
from pipeline.archive.video import names, places
from pipeline.archive.video.ahead import ahead
from pipeline.archive.video.crops import _one_field
from pipeline.archive.video.decoding import cut_boxes
from pipeline.archive.video.index import index_video
from pipeline.archive.video.pictures import read_pixels
from tests.archive.video.making import CODECS, decoded, save_codec, save_video

BOX = names.Box(11, 7, 31, 52)


def cut(path, frames, box=BOX, threads=2):
    index = index_video(str(path.parent), path.name)
    members = pa.table(
        {"path": [names.box_name(path.name, frame, box) for frame in frames]}
        | places.of_video(index, np.array(frames))
    )
    found = {each.place: each.pixels for each in cut_boxes(str(path.parent), members)}
    return [found[place] for place in range(len(frames))]


def assert_cut(path, frames, box=BOX):
    whole = decoded(path)
    left, top = int(box.x), int(box.y)
    for pixels, frame in zip(cut(path, frames, box), frames, strict=True):
        expected = whole[frame][top : top + int(box.height), left : left + int(box.width)]
        np.testing.assert_array_equal(pixels, expected, err_msg=f"frame {frame}")


@pytest.mark.parametrize("name", CODECS)
def test_every_frame_some_and_the_last_ones(tmp_path, name):
    path = save_codec(tmp_path, name)
    index = index_video(str(tmp_path), name)
    assert len(index.packet) == 100 and (index.width, index.height) == (128, 96)
    assert len(index.runs.packet) > 1 or name == "hevc.mkv"
    np.testing.assert_array_equal(index.micros, np.arange(100) * 40_000)
    assert_cut(path, list(range(100)))
    assert_cut(path, [99, 3, 41, 90])
    assert_cut(path, [96, 98])


def test_frames_of_a_variable_rate_have_the_times_of_the_stream(tmp_path):
    steps = np.random.default_rng(1).integers(10, 90, 59).tolist()
    path = save_video(tmp_path / "a.mkv", steps=steps)
    index = index_video(str(tmp_path), "a.mkv")
    assert index.micros.tolist() == [1000 * time for time in np.cumsum([0, *steps])]
    assert_cut(path, list(range(0, 60, 7)))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_boxes_are_those_of_the_upright_picture(tmp_path, rotation):
    path = save_video(tmp_path / "a.mp4", frames=4, rotation=rotation)
    index = index_video(str(tmp_path), "a.mp4")
    assert (index.width, index.height) == ((128, 96) if rotation == 180 else (96, 128))
    assert decoded(path)[0].shape == (index.height, index.width, 3)
    assert_cut(path, [0, 3])


def test_many_boxes_of_a_frame_are_cut_from_the_whole(tmp_path):
    path = save_video(tmp_path / "a.mp4", frames=2)
    index = index_video(str(tmp_path), "a.mp4")
    boxes = [names.Box(x, 5, 20, 40) for x in range(8)]
    members = pa.table(
        {"path": [names.box_name("a.mp4", 1, box) for box in boxes]}
        | places.of_video(index, np.ones(8, int))
    )
    whole = decoded(path)[1]
    for each in cut_boxes(str(tmp_path), members):
        np.testing.assert_array_equal(each.pixels, whole[5:45, each.place : each.place + 20])


def test_a_broken_tail_gives_rejects_and_what_is_before_it(tmp_path):
    path = save_codec(tmp_path, "mjpeg.avi")
    whole, data = decoded(path), path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    index = index_video(str(tmp_path), path.name)
    assert 40 < len(index.packet) < 80
    assert_cut(path, [0, 40])
    hurt = bytearray(data)
    hurt[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(hurt)
    found = cut(path, list(range(len(index_video(str(tmp_path), path.name).packet))))
    bad = [place for place, pixels in enumerate(found) if isinstance(pixels, Rejected)]
    assert all(found[place].reason == "damaged-frame" for place in bad)
    good = [place for place in range(40) if place not in bad]
    assert len(good) > 30
    np.testing.assert_array_equal(found[good[-1]], whole[good[-1]][7:59, 11:42])


@pytest.mark.parametrize(("data", "told"), [(b"no video", "cannot be opened"), (b"", "opened")])
def test_what_is_no_video_is_told(tmp_path, data, told):
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(ReadError, match=told):
        index_video(str(tmp_path), "a.mp4")
    with pytest.raises(ReadError, match="the file does not exist"):
        index_video(str(tmp_path), "b.mp4")


def test_a_row_of_a_video_can_be_looked_at(tmp_path):
    path = save_video(tmp_path / "a.mp4", frames=50)
    pixels = read_pixels(str(tmp_path), "a.mp4#f=45&b=10,20,30,40")
    np.testing.assert_array_equal(pixels, decoded(path)[45][20:60, 10:40])
    for name, reason in [("a.mp4#f=50&b=1,2,3,4", "no-frame"), ("b.mp4#f=5&b=1,2,3,4", "missing"),
                         ("a.mp4#f=5&b=500,2,3,4", "no-area")]:  # fmt: skip
        with pytest.raises(Rejected, match=reason):
            read_pixels(str(tmp_path), name)


def test_odd_lines_of_two_fields_are_made_from_even_ones():
    lines = np.array([0, 99, 10, 99, 20], np.uint8)[:, None, None]
    assert _one_field(lines, 0)[:, 0, 0].tolist() == [0, 5, 10, 15, 20]
    assert _one_field(lines, 1)[:, 0, 0].tolist() == [99, 99, 99, 99, 99]


def test_what_goes_wrong_ahead_is_raised_and_an_early_end_stops_it():
    def broken():
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(ahead(broken(), 3))
    endless = ahead(iter(int, 1), 3)
    assert next(endless) == 0
    endless.close()


def test_a_playlist_under_the_name_of_a_video_opens_no_other_file(tmp_path):
    """FFmpeg would read what it names: a file that a manifest may not."""
    save_video(tmp_path / "elsewhere" / "secret.mpg", "mpeg2video", frames=10)
    lists = {
        "concat.mp4": "ffconcat version 1.0\nfile elsewhere/secret.mpg\n",
        "hls.ts": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nelsewhere/secret.mpg\n",
    }
    assert len(index_video(str(tmp_path), "elsewhere/secret.mpg").micros) == 10
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ReadError, match="it cannot be opened"):
            index_video(str(tmp_path), name)
