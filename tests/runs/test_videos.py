"""Galleries of videos with boxes: every box is one row or one reject, whatever the video."""

import json
import os
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image

from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.video.listing import list_archive
from pipeline.archive.video.rules import BoxSettings
from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.model.functions import NetworkFunction
from pipeline.runs.extraction import UpdatePlan, extract, preview_update
from pipeline.runs.settings import ActorSettings, UpdateSettings, WorkSettings
from pipeline.runs.target import GallerySpec
from tests.archive.video.making import CODECS, decoded, mot, save_codec, save_video

MEANS = NetworkFunction(
    lambda crops: [[*crop.mean((0, 1)), *crop[:8].mean((0, 1)), 1.0] for crop in crops], "means"
)


def boxes_of(frames, seed):
    """Some boxes a frame, of three tracks, one partly outside and one without area."""
    rng = np.random.default_rng(seed)
    found = [
        (frame, track, *rng.integers(-5, 80, 2).tolist(), *rng.integers(10, 40, 2).tolist())
        for frame in range(0, frames, 3)
        for track in (1, 2, 3)
    ]
    return [*found, (5, 1, 200, 10, 20, 20), (6, 2, 10, 10, 0, 20), (frames + 7, 3, 1, 1, 9, 9)]


def save_archive(folder, names=tuple(CODECS), frames=100):
    for seed, name in enumerate(names):
        save_codec(folder, name, frames)
        stem = name.replace(".", "-")
        (folder / name).rename(folder / f"{stem}.{name.partition('.')[2]}")
        (folder / f"{stem}.txt").write_text(mot(boxes_of(frames, seed)))
    return folder


def contents(location):
    gallery = Gallery.open(str(location))
    rows = gallery.rows().to_pylist()
    return {row["path"]: (row, f.tobytes()) for row, f in zip(rows, gallery.array(), strict=True)}


def run(source, location, **how):
    return extract(str(source), str(location), MEANS, **how)


def only_features(found):
    return {path: feature for path, (_, feature) in found.items()}


def test_every_box_of_every_codec_is_one_row_or_one_reject(tmp_path):
    source = save_archive(tmp_path / "videos")
    tail = save_codec(source, "mjpeg.avi")
    data = tail.read_bytes()
    (source / "tail.avi").write_bytes(data[: len(data) // 2])
    (source / "tail.txt").write_text(mot(boxes_of(100, 99)))
    tail.unlink()
    (source / "broken.mp4").write_bytes(b"no video")
    (source / "broken.txt").write_text(mot([(0, 1, 1, 1, 9, 9)]))
    (source / "alone.mp4").write_bytes(b"no video")
    done = run(source, tmp_path / "g", work=WorkSettings(max_rejects=1))
    found = contents(tmp_path / "g")
    rejects = Gallery.open(str(tmp_path / "g")).rejects().to_pylist()
    by_video = {each: [] for each in {*(path.partition("#")[0] for path in found)}}
    for path in found:
        by_video[path.partition("#")[0]].append(path)
    for seed, name in enumerate(CODECS):
        video = f"{name.replace('.', '-')}.{name.partition('.')[2]}"
        wanted = boxes_of(100, seed)
        bad = [each for each in rejects if each["path"].startswith(f"{video}#")]
        assert len(by_video[video]) + len(bad) == len(wanted)
        assert sorted(each["reason"] for each in bad)[-1] == "no-frame"
        assert {each["reason"] for each in bad} == {"no-area", "no-frame"}
        whole = decoded(source / video)
        frame, _, x, y, width, height = wanted[7]
        row, feature = found[f"{video}#f={frame}&b={x},{y},{width},{height}"]
        crop = whole[frame][max(0, y) : min(96, y + height), max(0, x) : min(128, x + width)]
        assert (row["height"], row["width"]) == crop.shape[:2]
        expected = np.array(MEANS([crop])[0], np.float64)
        np.testing.assert_allclose(
            np.frombuffer(feature, np.float32), expected / np.linalg.norm(expected), atol=1e-6
        )
    reasons = {each["path"]: each["reason"] for each in rejects}
    assert (reasons["broken.mp4"], reasons["alone.mp4"]) == ("unreadable-video", "no-boxes")
    tail_rows = [path for path in found if path.startswith("tail.avi")]
    tail_rejects = [path for path in reasons if path.startswith("tail.avi#")]
    assert len(tail_rows) + len(tail_rejects) == len(boxes_of(100, 99))
    assert len(tail_rows) > 20 and len(tail_rejects) > 20
    assert done.rows == len(found)
    again = run(source, tmp_path / "g", work=WorkSettings(max_rejects=1))
    assert (again.version, again.new, again.changed) == (done.version, 0, 0)


def test_units_are_whole_runs_and_their_size_changes_no_feature(tmp_path):
    source = save_archive(tmp_path / "videos", ["mjpeg.avi", "h264.mp4"])
    whole = run(source, tmp_path / "one", work=WorkSettings(unit_size=2048))
    small = run(source, tmp_path / "many", work=WorkSettings(unit_size=1))
    assert (whole.units, small.units) == (2, 4 + 3)
    assert only_features(contents(tmp_path / "one")) == only_features(contents(tmp_path / "many"))


def test_columns_of_a_table_of_videos(tmp_path):
    save_video(tmp_path / "a.mp4", frames=20)
    (tmp_path / "left.txt").write_text(mot([(0, 1, 0, 0, 20, 20), (10, 1, 0, 0, 20, 20)]))
    (tmp_path / "right.csv").write_text(
        "frame,x,y,width,height,track,identity\n10,60,0,20.25,20,1,7\n10,60,0,20.25,20,1,7\n"
    )
    (tmp_path / "v.csv").write_text(
        "video,camera,boxes,started_at,fps\n"
        "a.mp4,c1,left.txt,2024-05-01 10:00:00,\na.mp4,2,right.csv,2024-05-01 10:00:00,\n"
    )
    labels = LabelSettings(first_identity=0, time_zone="Europe/Berlin")
    run(tmp_path / "v.csv", tmp_path / "g", labels=labels)
    rows = {path: row for path, (row, _) in contents(tmp_path / "g").items()}
    assert sorted(rows) == [
        "a.mp4#f=0&b=0,0,20,20",
        "a.mp4#f=10&b=0,0,20,20",
        "a.mp4#f=10&b=60,0,20.25,20",
        "a.mp4#f=10&b=60,0,20.25,20&n=2",
    ]
    row = rows["a.mp4#f=10&b=60,0,20.25,20"]
    assert (row["camera"], row["identity"], row["frame"]) == ("2", 8, 10)
    assert row["tracklet"] == "a.mp4#c=2&t=1"
    assert row["captured_at"] == datetime(2024, 5, 1, 8, 0, 0, 400_000, UTC)
    assert rows["a.mp4#f=0&b=0,0,20,20"]["tracklet"] == "a.mp4#c=1&t=1"

    text = (tmp_path / "v.csv").read_text().replace("00,\n", "00,5\n")
    (tmp_path / "v.csv").write_text(text)
    done = run(tmp_path / "v.csv", tmp_path / "g", labels=labels)
    assert (done.new, done.changed, done.unchanged) == (0, 3, 1)
    times = [row["captured_at"] for row, _ in contents(tmp_path / "g").values()]
    assert max(times) - min(times) == timedelta(seconds=2)


def test_only_what_is_new_of_a_grown_video_or_box_file_is_extracted(tmp_path):
    source = tmp_path / "videos"
    path = save_codec(source, "mjpeg.avi", 100)
    boxes = boxes_of(160, 1)[:-3]
    (source / "mjpeg.txt").write_text(mot([each for each in boxes if each[0] < 100]))
    first = run(source, tmp_path / "g")
    before = contents(tmp_path / "g")
    save_codec(source, "mjpeg.avi", 160)
    os.utime(path, (2_000_000_000, 2_000_000_000))
    grown = run(source, tmp_path / "g")
    # Of 100 frames, the last run began at 96: it has become longer, and its boxes are done again.
    assert (grown.new, grown.changed) == (0, sum(1 for path in before if "#f=96" in path or
                                                "#f=99" in path))  # fmt: skip
    assert grown.touched == first.rows - grown.changed
    (source / "mjpeg.txt").write_text(mot(boxes))
    more = run(source, tmp_path / "g")
    assert (more.changed, more.touched) == (0, 0)
    assert more.new == len(boxes) - first.rows
    moved = [(*each[:2], each[2] + 1, *each[3:]) if each[0] == 0 else each for each in boxes]
    (source / "mjpeg.txt").write_text(mot(moved))
    last = run(source, tmp_path / "g", update=UpdateSettings(delete_missing=True))
    assert (last.new, last.removed, last.rows) == (3, 3, len(boxes))
    everything = run(source, tmp_path / "afresh")
    assert everything.rows == last.rows
    assert only_features(contents(tmp_path / "g")) == only_features(contents(tmp_path / "afresh"))


def test_the_best_boxes_of_each_tracklet_are_large_sharp_and_spread(tmp_path):
    source = tmp_path / "videos"
    save_codec(source, "mjpeg.avi", 90)
    boxes = [(frame, 1, 0, 0, 20 + (frame % 30 < 5), 20) for frame in range(90)]
    (source / "mjpeg.txt").write_text(mot([*boxes, (50, 2, 5, 5, 9, 9), (51, -1, 5, 5, 9, 9)]))
    listing = list_archive(str(source), boxes=BoxSettings(per_tracklet=3))
    assert listing.images["slot"].null_count == 1
    done = run(source, tmp_path / "g", boxes=BoxSettings(per_tracklet=3))
    rows = [row for row, _ in contents(tmp_path / "g").values()]
    frames = sorted(row["frame"] for row in rows if row["tracklet"] == "mjpeg.avi#t=1")
    assert len(frames) == 3 and [frame // 30 for frame in frames] == [0, 1, 2]
    assert all(frame % 30 < 5 for frame in frames)
    assert done.rejects == {"not-best": 5} and done.rows == 5
    assert done.skipped == {"(box of a tracklet that has larger ones)": 82}


def test_frames_as_pictures_with_coco_boxes(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("c1/1.png", "c2/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(tmp_path / name)
    coco = {
        "images": [{"id": i, "file_name": f"c{i}/{i}.png"} for i in (1, 2)],
        "annotations": [{"image_id": i, "bbox": [x, 5, 20, 30]} for i in (1, 2) for x in (0, 35)]
        + [{"image_id": 2, "bbox": [60, 5, 20, 30]}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(coco))
    done = run(tmp_path / "boxes.json", tmp_path / "g", layout="{camera}/{frame}.png")
    found = contents(tmp_path / "g")
    assert (done.rows, done.rejects) == (4, {"no-area": 1})
    row, feature = found["c2/2.png#b=35,5,20,30"]
    assert (row["camera"], row["frame"], row["width"]) == ("2", 2, 20)
    crop = np.asarray(Image.open(tmp_path / "c2/2.png"))[5:35, 35:55]
    expected = np.array(MEANS([crop])[0], np.float64)
    np.testing.assert_allclose(np.frombuffer(feature, np.float32) * np.linalg.norm(expected),
                               expected, rtol=1e-5)  # fmt: skip
    os.utime(tmp_path / "c1/1.png", (2_000_000_000, 2_000_000_000))
    again = run(tmp_path / "boxes.json", tmp_path / "g", layout="{camera}/{frame}.png")
    assert (again.new, again.changed, again.touched) == (0, 0, 2)


def test_a_preview_counts_boxes(tmp_path):
    source = save_archive(tmp_path / "videos", ["mjpeg.avi"])
    spec = GallerySpec(str(tmp_path / "g"), MEANS, "none", "float32", None)
    planned = preview_update(
        UpdatePlan(list_archive(str(source)), spec, actors=ActorSettings(actors=0))
    )
    assert planned.to_extract == len(boxes_of(100, 0)) - 3 - planned.rejects["no-area"] + 2


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("video,boxes\na.mp4,none.txt\n", "there is no box file"),
        ("video,fps\na.mp4,0\n", "row 1: fps must be above 0"),
        ("video,fps\na.mp4,x\n", "fps 'x' is no number"),
        ("video,started_at\na.mp4,noon\n", "row 1: started_at noon"),
        ("video,fps\na.mp4,5\na.mp4,6\n", "row 2: a.mp4 has another started_at or fps"),
        ("video,camera\n,1\n", "row 1 names no video"),
        ("video,camera\n", "has no row"),
        ("image,x,y,width,height\n,1,2,3,4\n", "do not say which video"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(tmp_path, table, told):
    save_video(tmp_path / "a.mp4", frames=2)
    (tmp_path / "v.csv").write_text(table)
    with pytest.raises(InputError, match=told):
        list_archive(str(tmp_path / "v.csv"))


def test_columns_of_a_table_that_are_not_read_are_told(tmp_path, caplog):
    save_video(tmp_path / "a.mp4", frames=2)
    (tmp_path / "a.txt").write_text(mot([(0, 1, 1, 1, 9, 9)]))
    (tmp_path / "v.csv").write_text("video,camera,site,start\na.mp4,1,north,noon\n")
    caplog.set_level("INFO")
    assert len(list_archive(str(tmp_path / "v.csv")).images) == 1
    assert f"{tmp_path / 'v.csv'}: columns not read: site, start" in caplog.text


def test_sources_without_boxes_are_told(tmp_path):
    save_video(tmp_path / "a.mp4", frames=2)
    for source in (tmp_path / "a.mp4", tmp_path):
        with pytest.raises(InputError, match="there is no box file beside it"):
            list_archive(str(source))
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(InputError, match="has no box: its box files are empty"):
        list_archive(str(tmp_path))
    Image.new("RGB", (9, 9)).save(tmp_path / "1.png")
    (tmp_path / "a.txt").unlink()
    assert list_archive(str(tmp_path)).images["path"].to_pylist() == ["1.png"]
    with pytest.raises(InputError, match="has no boxes"):
        list_archive(str(tmp_path), boxes=BoxSettings(every=2))


def test_a_table_names_only_places_that_it_may_read(tmp_path):
    hidden = tmp_path / ".ssh" / "a.txt"
    hidden.parent.mkdir()
    hidden.write_text(mot([(0, 1, 1, 1, 9, 9)]))
    save_video(tmp_path / "a.mp4", frames=2)
    (tmp_path / "v.csv").write_text("video,boxes\na.mp4,.ssh/a.txt\n")
    with pytest.raises(InputError, match="in a hidden folder"):
        list_archive(str(tmp_path / "v.csv"))
    allowed = LabelSettings(allow_root=(str(hidden.parent),))
    assert len(list_archive(str(tmp_path / "v.csv"), labels=allowed).images) == 1
