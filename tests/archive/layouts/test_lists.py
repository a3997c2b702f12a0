import pytest

from pipeline.archive.layouts.labels import LayoutError, NameLabels
from pipeline.archive.layouts.named import layout
from pipeline.archive.listing.source import list_source
from pipeline.errors import InputError


@pytest.fixture
def copy(tmp_path):
    images = tmp_path / "image"
    images.mkdir()
    for number in (1, 2, 3, 4):
        (images / f"{number:07d}.jpg").write_bytes(b"x")
    lists = tmp_path / "train_test_split"
    lists.mkdir()
    (lists / "train_list.txt").write_text("0000001 0\n0000002 16777217\n\n")
    (lists / "test_list_800.txt").write_text("0000003 5\r\n")
    (lists / "test_list_1600.txt").write_text("0000003 5\n")
    (lists / "notes.txt").write_text("not a list at all\n")
    return tmp_path


@pytest.mark.parametrize("folder", ["", "image"])
def test_labels_come_from_the_lists(copy, folder):
    listing = list_source(str(copy / folder), "vehicleid")
    assert listing.images["identity"].to_pylist() == [1, 16777218, 6]
    assert listing.images["camera"].null_count == 3
    assert listing.rejects["reason"].to_pylist() == ["no-layout"]
    assert "0000004.jpg" in listing.rejects["path"][0].as_py()
    assert "train_list.txt" in listing.rejects["detail"][0].as_py()


def test_the_whole_list_in_attribute_is_read(copy):
    (copy / "attribute").mkdir()
    (copy / "attribute" / "img2vid.txt").write_text("0000004 9\n")
    assert len(list_source(str(copy), "vehicleid").images) == 4


def test_lists_beside_the_images_are_read_first(tmp_path):
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "train_list.txt").write_text("a.jpg 3\n")
    (tmp_path / "train_list.txt").write_text("a.jpg 9\n")
    assert layout("vehicleid", str(tmp_path / "image")).parse("a.jpg") == NameLabels(4)


def test_an_image_in_no_list_is_refused(copy):
    with pytest.raises(LayoutError, match="does not fit layout vehicleid"):
        layout("vehicleid", str(copy)).parse("image/0000009.jpg")


def test_lists_that_differ_are_refused(copy):
    (copy / "train_test_split" / "test_list_2400.txt").write_text("0000003 6\n")
    with pytest.raises(InputError, match="image 0000003 is vehicle 6 here and 5 in another list"):
        layout("vehicleid", str(copy))


@pytest.mark.parametrize("line", ["0000001", "0000001 x", "0000001 5 7", f"1 {10**19}"])
def test_a_line_that_is_none_is_refused(copy, line):
    (copy / "train_test_split" / "train_list.txt").write_text(f"0000001 5\n{line}\n")
    with pytest.raises(InputError, match=r"train_list.txt, line 2: expected IMAGE VEHICLE"):
        layout("vehicleid", str(copy))


def test_a_copy_without_lists_is_refused(tmp_path):
    (tmp_path / "image").mkdir()
    with pytest.raises(InputError, match=r"no train_list\.txt"):
        layout("vehicleid", str(tmp_path / "image"))


def test_vric_reads_each_list_for_its_own_folder(tmp_path):
    for kind, vehicle in (("probe", 3), ("gallery", 4)):
        (tmp_path / f"{kind}_images").mkdir()
        (tmp_path / f"vric_{kind}.txt").write_text(f"000001.jpg {vehicle} 12\n")
    whole = layout("vric", str(tmp_path))
    assert whole.parse("probe_images/000001.jpg") == NameLabels(4, "12")
    assert whole.parse("gallery_images/000001.jpg") == NameLabels(5, "12")
    probe = layout("vric", str(tmp_path / "probe_images"))
    assert probe.parse("000001.jpg") == NameLabels(4, "12")


def test_veri_wild_reads_the_table_of_vehicles(tmp_path):
    (tmp_path / "images" / "00001").mkdir(parents=True)
    (tmp_path / "train_test_split").mkdir()
    (tmp_path / "train_test_split" / "vehicle_info.txt").write_text(
        "id/image;Camera ID;Time;Model;Type;Color\n"
        "00001/000001;34;2018-03-16 10:15:30;Volkswagen;SUV;white\n"
    )
    for source, path in ((tmp_path, "images/00001/000001.jpg"), (tmp_path / "images", "1/000001")):
        assert layout("veri-wild", str(source)).parse(path) == NameLabels(2, "34")
