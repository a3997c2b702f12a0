"""Every form of box file, and what is wrong with it."""

import json

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.archive.video.box_files import read_boxes
from pipeline.archive.video.boxes import chosen
from pipeline.archive.video.rules import BoxSettings
from pipeline.errors import InputError

LOCAL = fsspec.filesystem("file")
COCO = {
    "images": [
        {"id": 4, "file_name": "f/1.jpg"},
        {"id": 5, "file_name": "x", "video_id": 1, "frame_id": 7},
    ],
    "videos": [{"id": 1, "name": "a.mp4"}],
    "categories": [{"id": 1, "name": "person"}],
    "annotations": [
        {"image_id": 4, "bbox": [1, 2, 3, 4], "category_id": 1, "score": 0.5},
        {"image_id": 5, "bbox": [5, 6, 7, 8], "category_id": 2, "track_id": 9, "identity": 3},
    ],
}
CVAT = """<annotations><track id="3" label="person">
<box frame="0" xtl="1" ytl="2" xbr="11" ybr="22" outside="0"><attribute name="identity">5</attribute></box>
<box frame="1" xtl="1" ytl="2" xbr="11" ybr="22" outside="1"/></track>
<image id="8" name="f/8.jpg"><box label="dog" xtl="0" ytl="1" xbr="2" ybr="4"/></image></annotations>"""  # noqa: E501


def read(path, **how):
    boxes = read_boxes(LOCAL, str(path), **how)
    return [{k: v for k, v in row.items() if v is not None} for row in boxes.table.to_pylist()]


def save(tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def box(x, y, width, height, **more):
    return {"x": x, "y": y, "width": width, "height": height, **more}


def test_mot_counts_frames_and_corners_from_1(tmp_path):
    path = save(tmp_path, "a.txt", "1,7,11,21.5,30,60,0.9,-1,-1,-1\n\n3,-1,1,1,2,2,-1,2,0.5\n")
    assert read(path) == [
        {"frame": 0, "track": "7", "confidence": 0.9} | box(10, 20.5, 30, 60),
        {"frame": 2, "class": "2"} | box(0, 0, 2, 2),
    ]


def test_yolo_is_relative_and_has_tracks_or_confidences(tmp_path):
    save(tmp_path, "a/a_1.txt", "0 0.5 0.5 0.2 0.4 0.9 12\n")
    save(tmp_path, "a/a_3.txt", "1 0.5 0.5 0.2 0.4\n")
    boxes = read_boxes(LOCAL, str(tmp_path / "a"))
    assert boxes.relative
    first, second = read(tmp_path / "a")
    assert first == pytest.approx(
        {"frame": 0, "class": "0", "track": "12", "confidence": 0.9} | box(0.4, 0.3, 0.2, 0.4)
    )
    assert (second["frame"], second["class"], "track" in second) == (2, "1", False)
    save(tmp_path, "b/b_1.txt", "0 0.5 0.5 0.2 0.4 12\n")
    assert read(tmp_path / "b")[0]["track"] == "12"
    save(tmp_path, "b/b_2.txt", "0 0.5 0.5 0.2 0.4 0.75\n")
    assert [row["confidence"] for row in read(tmp_path / "b")] == [12, 0.75]


def test_coco_has_pictures_and_frames_of_videos(tmp_path):
    path = save(tmp_path, "a.json", COCO)
    assert read(path, beside_video=False) == [
        {"file": "f/1.jpg", "confidence": 0.5, "class": "person"} | box(1, 2, 3, 4),
        {"file": "a.mp4", "frame": 7, "track": "9", "identity": 3, "class": "2"} | box(5, 6, 7, 8),
    ]
    found = save(tmp_path, "b.json", [{"image_id": 3, "bbox": [1, 2, 3, 4], "score": 1}])
    assert read(found) == [{"frame": 3, "confidence": 1} | box(1, 2, 3, 4)]


def test_cvat_has_tracks_and_images(tmp_path):
    path = save(tmp_path, "a.xml", CVAT)
    track = {"frame": 0, "track": "3", "class": "person", "identity": 5} | box(1, 2, 10, 20)
    assert read(path) == [track, {"frame": 8, "class": "dog"} | box(0, 1, 2, 3)]
    path = save(tmp_path, "b.xml", CVAT[CVAT.index("<image") :].join(["<annotations>", ""]))
    assert read(path, beside_video=False) == [{"file": "f/8.jpg", "class": "dog"} | box(0, 1, 2, 3)]


def test_a_table_in_our_own_columns(tmp_path):
    path = save(
        tmp_path, "a.csv", "frame,x,y,width,height,tracklet,camera,mood\n0,1,2,3,4,7,01,x\n"
    )
    expected = [{"frame": 0, "track": "7", "camera": "01"} | box(1, 2, 3, 4)]
    assert read(path) == expected
    table = pa.table({"frame": [0], "x": [1], "y": [2], "width": [3], "height": [4.0],
                      "track": [7], "camera": ["01"]})  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == expected


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.txt", "1,7,11,21,30\n", "a.txt, line 1: not of the form"),
        ("a.txt", "\n0,7,11,21,30,60\n", "line 2: not of the form"),
        ("a.txt", "x,7\n", "has no numbers"),
        ("a.txt", "1,7,nan,21,30,60\n", "without end"),
        ("y/y.txt", "0 .5 .5 .2 .4\n", "number of a frame"),
        ("y/y_1.txt", "0 .5 .5 .2\n", "line 1: not of the form class"),
        ("a.json", "{", "cannot be read as JSON"),
        ("a.json", {"images": []}, "not of COCO's form: KeyError 'annotations'"),
        ("a.json", {"images": [{"id": 1, "file_name": "a"}],
                    "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}, "has no frame_id"),
        ("a.xml", "<a", "cannot be read as XML"),
        ("a.xml", "<a/>", "its root is a"),
        ("a.xml", '<annotations><image id="1"><box/></image></annotations>', "CVAT's form"),
        ("a.csv", "frame,x,y,width\n", "has no column height"),
        ("a.csv", "x,y,width,height\n", "neither a column frame nor image"),
        ("a.csv", "frame,x,y,width,height\n1,2,3,4,\n", "row 1 has no number in the column height"),
        ("a.csv", "frame,x,y,width,height\n1,2,3,4,b\n", "column height"),
        ("a.csv", "", "cannot be read as a table"),
        ("a.md", "", "is not a box file"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_name(tmp_path, name, text, told):
    path = save(tmp_path, name, text)
    with pytest.raises(InputError, match=told):
        read(path.parent if "/" in name else path)


def test_more_that_is_wrong(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="txt file of YOLO"):
        read(tmp_path / "empty")
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not text in UTF-8"):
        read(tmp_path / "a.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "none.txt")
    for name, text, told in [
        ("l.json", [], "a list of detections does not say"),
        ("v.json", COCO | {"videos": []}, "a frame of no video"),
        ("t.xml", CVAT, "tracks do not name their video"),
    ]:
        with pytest.raises(InputError, match=told):
            read(save(tmp_path, name, text), beside_video=False)


def test_settings_choose_and_count_what_they_leave_out(tmp_path):
    path = save(tmp_path, "a.csv", "frame,x,y,width,height,confidence,class\n"
                "0,0,0,9,9,.9,person\n1,0,0,9,9,.9,person\n2,0,0,9,9,.2,person\n"
                "2,0,0,9,9,,dog\n4,0,0,9,9,,person\n")  # fmt: skip
    boxes = read_boxes(LOCAL, str(path)).table
    kept, left_out = chosen(boxes, BoxSettings(0.5, ("person",), 2))
    assert kept["frame"].to_pylist() == [0, 4]
    assert list(left_out.values()) == [1, 1, 1]
    assert chosen(boxes, BoxSettings())[0].equals(boxes)
    for wrong in ({"every": 0}, {"per_tracklet": 0}):
        with pytest.raises(InputError, match="at least 1"):
            BoxSettings(**wrong)
