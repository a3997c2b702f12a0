"""Labels for other tools: our own readers make the same rows of them; forms are as published."""

import csv
import json
import tarfile
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.archive.labeling.cvat import write_cvat
from pipeline.archive.labeling.fiftyone import write_fiftyone
from pipeline.archive.labeling.labels import Label, LabeledFile
from pipeline.archive.labeling.mot import write_mot
from pipeline.archive.video.listing import list_archive
from pipeline.archive.video.names import Box
from pipeline.archive.video.sizes import FrameSize
from pipeline.errors import InputError
from pipeline.gallery.outputs import outputs_of
from pipeline.gallery.table import Gallery
from pipeline.model.functions import NetworkFunction
from pipeline.runs.extraction import extract
from pipeline.runs.labeling import label_frames
from pipeline.runs.linked import LinkSettings
from pipeline.runs.linking import link
from pipeline.runs.tracklets import update_tracklets
from tests.archive.video.making import mot, save_video
from tests.jobs.running import refused, result

MEANS = NetworkFunction(lambda crops: [[*crop.mean((0, 1)), 1.0] for crop in crops], "means")
LEFT = [(frame, frame % 2, 5.25, 9, 20, 30.5) for frame in (0, 1, 2, 3, 7, 8, 19)]
COLUMNS = ["path", "identity", "camera", "tracklet", "frame"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two cameras in one video, whose tracks have the same names; a second video; a gallery."""
    folder = tmp_path_factory.mktemp("labels")
    (folder / "v").mkdir()
    save_video(folder / "v" / "a.mp4", frames=20)
    save_video(folder / "b & c.mkv", frames=10, rotation=90)
    (folder / "left.txt").write_text(mot([*LEFT, (4, -1, -3, 60, 20, 50)]))
    right = "frame,x,y,width,height,track,identity\n0,70,1,20,20,1,5\n1,71,1,20,20,1,5\n"
    (folder / "right.csv").write_text(right + "1,71,1,20,20,1,5\n2,1,1,20,20,,-1\n")
    (folder / "b.csv").write_text("frame,x,y,width,height,track\n9,2,100,50,60,<x>\n")
    (folder / "videos.csv").write_text(
        "video,camera,boxes,started_at\nv/a.mp4,1,left.txt,2024-05-01T08:00:00Z\n"
        "v/a.mp4,2,right.csv,2024-05-01T08:00:00Z\nb & c.mkv,3,b.csv,\n"
    )
    extract(str(folder / "videos.csv"), str(folder / "g"), MEANS)
    return folder


@pytest.fixture
def gallery(archive):
    return Gallery.open(str(archive / "g"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Frames as pictures, one turned by EXIF, with tracks over several of them; a gallery."""
    folder = tmp_path_factory.mktemp("pictures")
    turned = Image.Exif()
    turned[0x0112] = 6
    annotations = []
    images = []
    for number, name in enumerate(["c1/img0.jpg", "c1/img1.jpg", "c2/img5.jpg"]):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (60, 40), (number * 40, 90, 10)).save(folder / name, exif=turned)
        images.append({"id": number, "file_name": name})
        annotations += [
            {"image_id": number, "bbox": [x, 5, 15, 30], "track_id": x, "identity": x + 1}
            for x in (0, 20)
        ]
    text = json.dumps({"images": images, "annotations": annotations})
    (folder / "boxes.json").write_text(text)
    extract(str(folder / "boxes.json"), str(folder / "g"), MEANS, layout="{camera}/img{frame}.jpg")
    return folder


def rows_of(images, columns=tuple(COLUMNS)):
    table = images.select(list(columns)).sort_by("path").replace_schema_metadata(None)
    return table.cast(pa.schema([pa.field(each.name, each.type) for each in table.schema]))


def read_again(source, layout="none"):
    listing = list_archive(str(source), layout)
    assert not len(listing.rejects)
    return listing.images


def test_coco_is_read_again_to_the_same_rows(archive, gallery, tmp_path):
    made = label_frames(gallery, str(tmp_path / "out"), "coco")
    assert made.files == (
        str(tmp_path / "out/annotations.json"),
        str(tmp_path / "out/gallery.json"),
    )
    about = json.loads((tmp_path / "out" / "annotations.json").read_text())
    (archive / "again.json").write_text(json.dumps(about))
    assert rows_of(read_again(archive / "again.json")) == rows_of(gallery.rows())
    videos = {each["id"]: each for each in about["videos"]}
    assert [(v["name"], v["width"], v["height"]) for v in videos.values()] == [
        ("b & c.mkv", 96, 128), ("v/a.mp4", 128, 96)]  # fmt: skip
    images = {each["id"]: each for each in about["images"]}
    assert len(images) == len(about["images"]) == 9
    first = next(each for each in about["images"] if each["frame_id"] == 1)
    assert first["file_name"] == "v/a/frame_000001.png"
    assert first["date_captured"] == "2024-05-01T08:00:00.040000+00:00"
    tracks = {}
    for each in about["annotations"]:
        assert set(each) >= {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}
        video = videos[images[each["image_id"]]["video_id"]]["name"]
        if "track_id" in each:
            key = (video, each["attributes"]["camera"], each["attributes"]["track"])
            assert tracks.setdefault(each["track_id"], key) == key
    assert len(set(tracks.values())) == len(tracks) == 4
    assert {len(each["bbox"]) for each in about["annotations"]} == {4}


def test_cvat_is_read_again_to_the_same_rows(archive, gallery, tmp_path):
    label_frames(gallery, str(tmp_path / "out"), "cvat")
    trees = {
        "v/a.mp4": tmp_path / "out/cvat/v/a.xml",
        "b & c.mkv": tmp_path / "out/cvat/b & c.xml",
    }
    lines = [f"{video},{path}" for video, path in trees.items()]
    (archive / "again.csv").write_text("\n".join(["video,boxes", *lines]))
    again = read_again(archive / "again.csv")
    assert rows_of(again) == rows_of(gallery.rows())
    tree = ElementTree.parse(trees["v/a.mp4"]).getroot()
    assert tree.findtext("version") == "1.1"
    task = tree.find("meta/task")
    assert (task.findtext("size"), task.findtext("mode")) == ("20", "interpolation")
    assert task.findtext("original_size/width") == "128"
    names = {each.findtext("name") for each in task.iter("attribute")}
    spans = {}
    for track in tree.iter("track"):
        boxes = track.findall("box")
        frames = [int(box.get("frame")) for box in boxes]
        assert frames == sorted(frames)
        for box in boxes:
            assert {each.get("name") for each in box.iter("attribute")} == names
            assert float(box.get("xbr")) > float(box.get("xtl"))
        spans[track.get("id")] = [(int(b.get("frame")), b.get("outside")) for b in boxes]
    # Track 1 of camera 1 has boxes on frames 1, 3, 7 and 19, which is the last.
    assert [(1, "0"), (2, "1"), (3, "0"), (4, "1"), (7, "0"), (8, "1"), (19, "0")] in spans.values()


def test_mot_is_read_again_to_the_same_rows(archive, gallery, tmp_path, caplog):
    label_frames(gallery, str(tmp_path / "out"), "mot")
    folder = tmp_path / "out" / "mot"
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert names == ["b-c-3", "v-a-1", "v-a-2"]
    lines = (folder / "v-a-1/gt/gt.txt").read_text().splitlines()
    assert lines[0] == "1,0,6.25,10,20,30.5,1,1,1"
    assert "5,-1,-2,61,20,50,1,1,1" in lines
    assert "2 boxes have no tracklet" in caplog.text
    info = (folder / "v-a-1/seqinfo.ini").read_text().splitlines()
    assert info[:1] == ["[Sequence]"] and "frameRate=25" in info and "seqLength=20" in info
    (archive / "again2.csv").write_text((folder / "videos.csv").read_text())
    again = rows_of(read_again(archive / "again2.csv"), ("path", "camera", "tracklet"))
    wanted = rows_of(gallery.rows(), ("path", "camera", "tracklet")).to_pylist()
    with (folder / "tracks.csv").open() as file:
        numbered = {(each["sequence"], each["track"]): each["id"] for each in csv.DictReader(file)}
    assert numbered["b-c-3", "<x>"] == "1"
    for row in wanted:
        row["tracklet"] = row["tracklet"] and row["tracklet"].replace("<x>", "1")
    assert again.to_pylist() == wanted
    label_frames(gallery, str(tmp_path / "out"), "mot", number="identity")
    assert "1,5,71,2,20,20,1,1,1" in (folder / "v-a-2/gt/gt.txt").read_text()


def test_fiftyone_has_a_sample_a_video_and_detections_in_its_frames(archive, gallery, tmp_path):
    label_frames(gallery, str(tmp_path / "out"), "fiftyone")
    folder = tmp_path / "out" / "fiftyone"
    assert json.loads((folder / "metadata.json").read_text())["media_type"] == "video"
    samples = json.loads((folder / "samples.json").read_text())["samples"]
    assert [each["filepath"] for each in samples] == [
        str(archive / "b & c.mkv"), str(archive / "v/a.mp4")]  # fmt: skip
    found = {}
    for sample in samples:
        for number, frame in json.loads((folder / sample["frames"]).read_text())["frames"].items():
            assert frame["frame_number"] == int(number) and frame["people"]["_cls"] == "Detections"
            for each in frame["people"]["detections"]:
                assert each["_cls"] == "Detection" and each["label"] == "person"
                assert all(0 <= part <= 1 for part in each["bounding_box"])
                found[each["row_id"]] = (int(number) - 1, each)
    rows = gallery.rows().to_pylist()
    assert len(found) == len(rows)
    for row in rows:
        frame, each = found[row["row_id"]]
        assert (row["frame"], row["camera"]) == (frame, each["camera"])
        assert each.get("identity") == row["identity"]
        assert ("index" in each) == (row["tracklet"] is not None)
    (outside,) = [each for _, each in found.values() if each["bounding_box"][0] == 0]
    np.testing.assert_allclose(outside["bounding_box"], [0, 60 / 96, 17 / 128, 36 / 96], atol=1e-6)


def test_frames_as_pictures(pictures, tmp_path):
    gallery = Gallery.open(str(pictures / "g"))
    label_frames(gallery, str(tmp_path / "coco"), "coco")
    about = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert {(each["width"], each["height"]) for each in about["images"]} == {(40, 60)}
    (pictures / "again.json").write_text(json.dumps(about))
    layout = "{camera}/img{frame}.jpg"
    assert rows_of(read_again(pictures / "again.json", layout)) == rows_of(gallery.rows())
    label_frames(gallery, str(tmp_path / "cvat"), "cvat")
    (pictures / "again.xml").write_text((tmp_path / "cvat/cvat/annotations.xml").read_text())
    assert rows_of(read_again(pictures / "again.xml", layout)) == rows_of(gallery.rows())
    label_frames(gallery, str(tmp_path / "mot"), "mot")
    lines = (tmp_path / "mot/mot/c1-1/gt/gt.txt").read_text().splitlines()
    assert lines[0] == "1,0,1,6,15,30,1,1,1" and len(lines) == 4  # img0 is frame 1, img1 frame 2
    label_frames(gallery, str(tmp_path / "fiftyone"), "fiftyone")
    samples = json.loads((tmp_path / "fiftyone/fiftyone/samples.json").read_text())["samples"]
    assert len(samples) == 3 and len(samples[0]["people"]["detections"]) == 2


def test_crops_are_boxes_of_whole_images(tmp_path):
    for name in ("0001_c1s1_000001_00.jpg", "0002_c2s1_000001_00.jpg"):
        (tmp_path / "crops").mkdir(exist_ok=True)
        Image.new("RGB", (30, 60)).save(tmp_path / "crops" / name)
    extract(str(tmp_path / "crops"), str(tmp_path / "g"), MEANS, layout="market1501")
    gallery = Gallery.open(str(tmp_path / "g"))
    label_frames(gallery, str(tmp_path / "out"), "coco")
    about = json.loads((tmp_path / "out/annotations.json").read_text())
    assert [each["bbox"] for each in about["annotations"]] == [[0, 0, 30, 60]] * 2
    assert about["annotations"][1]["attributes"]["identity"] == 2
    label_frames(gallery, str(tmp_path / "out"), "fiftyone")  # in place of the earlier export
    assert not (tmp_path / "out/annotations.json").exists()
    samples = json.loads((tmp_path / "out/fiftyone/samples.json").read_text())["samples"]
    assert samples[0]["people"]["detections"][0]["bounding_box"] == [0, 0, 1, 1]
    with pytest.raises(InputError, match="is a crop, and MOTChallenge has boxes on frames only"):
        label_frames(gallery, str(tmp_path / "mot"), "mot")


def test_candidates_of_rows_and_of_tracklets_become_labels(archive, gallery, tmp_path):
    settings = LinkSettings(k=3, threshold=0.0)
    links, of_tracklets = tmp_path / "links.parquet", tmp_path / "tracklets.csv"
    link(gallery, links, settings)
    update_tracklets(gallery, str(tmp_path / "t"))
    link(Gallery.open(str(tmp_path / "t")), of_tracklets, settings)
    wanted = {row["path"]: row["candidate"] for row in pq.read_table(links).to_pylist()}
    label_frames(gallery, str(tmp_path / "out"), "coco", links=links)
    paths = dict(zip(*(gallery.rows()[name].to_pylist() for name in ("row_id", "path")),
                     strict=True))  # fmt: skip

    def candidates():
        about = json.loads((tmp_path / "out/annotations.json").read_text())
        told = [each["attributes"] for each in about["annotations"]]
        return {paths[each["row_id"]]: each.get("candidate") for each in told}

    assert candidates() == wanted
    label_frames(gallery, str(tmp_path / "out"), "coco", links=of_tracklets)
    with of_tracklets.open() as file:
        wanted = {each["path"]: int(each["candidate"]) for each in csv.DictReader(file)}
    rows = gallery.rows().to_pylist()
    assert candidates() == {row["path"]: wanted.get(row["tracklet"]) for row in rows}
    label_frames(gallery, str(tmp_path / "mot"), "mot", links=of_tracklets, number="candidate")
    (output,) = [each for each in outputs_of(gallery) if str(each.place).endswith("mot")]
    assert output.kind == "export" and len(output.files) == 2
    with pytest.raises(InputError, match="give the gallery of the boxes"):
        label_frames(Gallery.open(str(tmp_path / "t")), str(tmp_path / "o"), "coco")


def test_what_cannot_be_labeled_is_told(archive, gallery, pictures, tmp_path):
    out = str(tmp_path / "out")
    with pytest.raises(InputError, match="'npy' has no labels"):
        label_frames(gallery, out, "npy")
    with pytest.raises(InputError, match="goes with `format` mot alone"):
        label_frames(gallery, out, "coco", number="identity")
    with pytest.raises(InputError, match="needs `links`"):
        label_frames(gallery, out, "mot", number="candidate")
    (tmp_path / "links.csv").write_text("row_id,path\n1,a\n")
    with pytest.raises(InputError, match="is not a table of identity candidates"):
        label_frames(gallery, out, "coco", links=tmp_path / "links.csv")
    link(Gallery.open(str(pictures / "g")), tmp_path / "l.csv", LinkSettings(threshold=0.0))
    with pytest.raises(InputError, match="has candidates of other rows"):
        label_frames(gallery, out, "coco", links=tmp_path / "l.csv")
    video = archive / "v" / "a.mp4"
    video.rename(archive / "gone.mp4")
    try:
        with pytest.raises(InputError, match="labels need the size of its frames: bring it back"):
            label_frames(gallery, out, "coco")
    finally:
        (archive / "gone.mp4").rename(video)


def test_pictures_that_no_number_tells_apart_are_refused_for_mot(tmp_path):
    for names, told in (
        (["a1.png", "b1.png"], "two pictures beside it have the same number"),
        (["a.png"], "this name has none"),
    ):
        folder = tmp_path / names[0]
        folder.mkdir()
        lines = ["image,x,y,width,height"]
        for name in names:
            Image.new("RGB", (30, 60)).save(folder / name)
            lines.append(f"{name},0,0,20,20")
        (folder / "boxes.csv").write_text("\n".join(lines))
        extract(str(folder / "boxes.csv"), str(folder / "g"), MEANS)
        with pytest.raises(InputError, match=told):
            label_frames(Gallery.open(str(folder / "g")), str(folder / "out"), "mot")


def test_what_a_form_cannot_hold_is_refused(tmp_path):
    def file(name, frame):
        label = Label(0, frame, Box(0, 0, 9, 9), None, None, None, None, None, None, None)
        return LabeledFile("/data", name, FrameSize(20, 10), (label,))

    with pytest.raises(InputError, match="two videos would share the labels"):
        write_cvat([file("a.avi", 0), file("a.mp4", 0)], tmp_path / "cvat")
    with pytest.raises(InputError, match="holds videos or pictures, and this gallery has both"):
        write_fiftyone([file("a.avi", 0), file("a.png", None)], tmp_path / "fiftyone", {})
    write_mot([file("x/a.avi", 0), file("x/a.mp4", 0)], tmp_path / "mot")
    assert (tmp_path / "mot/x-a-2/gt/gt.txt").read_text() == "1,-1,1,1,9,9,1,1,1\n"
    with tarfile.open(tmp_path / "crops.tar", "w") as tar:
        Image.new("RGB", (30, 60)).save(tmp_path / "1.png")
        tar.add(tmp_path / "1.png", "1.png")
    (tmp_path / "1.png").unlink()
    extract(str(tmp_path / "crops.tar"), str(tmp_path / "g"), MEANS)
    with pytest.raises(InputError, match="lies in a tar"):
        label_frames(Gallery.open(str(tmp_path / "g")), str(tmp_path / "out"), "coco")


def test_the_command_writes_labels_and_a_purge_deletes_them(archive, tmp_path, capsys):
    copy, out = tmp_path / "g", tmp_path / "out"
    extract(str(archive / "videos.csv"), str(copy), MEANS)
    done = result(capsys, "export", copy, "--out", out, "--format", "cvat")
    assert (done["rows"], done["dimension"]) == (13, None)
    told = refused(capsys, "export", copy, "--out", out, "--links", out)
    assert "--links and --number are about labels" in told
    told = refused(capsys, "export", copy, "--out", out, "--format", "mot", "--query", copy)
    assert "--query and --safe-csv are about features" in told
    erase = ("erase", copy, "--where", "camera = '2'", "--purge", "--everywhere", "--yes")
    (followed,) = result(capsys, *erase)["purged"]["outputs"]
    assert (followed["kind"], followed["is_removed"]) == ("export", True)
    assert not out.exists()


def test_pycocotools_reads_every_box(gallery, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    label_frames(gallery, str(tmp_path / "out"), "coco")
    read = coco.COCO(str(tmp_path / "out/annotations.json"))
    assert len(read.getAnnIds()) == gallery.count
    (person,) = read.loadCats(read.getCatIds())
    assert person["name"] == "person"
    assert {each["attributes"]["row_id"] for each in read.loadAnns(read.getAnnIds())} == set(
        gallery.row_ids().tolist()
    )


def test_motmetrics_reads_every_box_of_a_track(gallery, tmp_path):
    motmetrics = pytest.importorskip("motmetrics")
    label_frames(gallery, str(tmp_path / "out"), "mot")
    read = [
        motmetrics.io.loadtxt(str(path), fmt="mot16")
        for path in sorted((tmp_path / "out/mot").glob("*/gt/gt.txt"))
    ]
    assert sum(map(len, read)) == gallery.count
    frames = sorted(frame for each in read for frame, _ in each.index)
    assert frames == sorted(1 + frame for frame in gallery.rows()["frame"].to_pylist())
