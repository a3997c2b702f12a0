import shutil

import numpy as np
import pytest
from PIL import Image

from pipeline.gallery.sidecars.calibrations import write_calibration
from pipeline.gallery.table import Gallery
from tests.jobs.labeled import labeled_gallery, people
from tests.jobs.running import SIZE, refused, result, run
from tests.stages.making import Tiny, save_crop, save_network, save_source


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small gallery, its source, its network, and three images to search for."""
    folder = tmp_path_factory.mktemp("search")
    save_source(folder / "source", 40)
    for i in range(3):
        save_crop(folder / "images" / f"{i}.png", i + 500)
    return folder, save_network(folder).path


@pytest.fixture
def command(made, capsys):
    folder, network = made
    gallery = folder / "gallery"
    if not gallery.exists():
        result(
            capsys, "extract", folder / "source", "--gallery", gallery, "--model", network, *SIZE
        )
    return ("--gallery", gallery, "--model", network)


def image(made, number):
    return made[0] / "images" / f"{number}.png"


def test_an_image_of_the_gallery_finds_itself(capsys, made, command):
    name = sorted((made[0] / "source").iterdir())[11]
    told = result(capsys, "search", name, *command, "-k", 5)
    (ranked,) = told["results"]
    first = ranked["hits"][0]
    assert (first["path"], first["row_id"], first["rank"]) == (name.name, 11, 1)
    assert first["score"] == pytest.approx(1)
    assert [hit["match"] for hit in ranked["hits"]] == [None] * 5
    assert (told["rows"], told["version"], told["not_searched"]) == (40, 1, [])


def test_lists_are_those_of_plain_numpy(capsys, made, command, tmp_path):
    """The images extracted as a gallery of their own give the queries' features."""
    told = result(capsys, "search", image(made, 0), image(made, 2), *command, "-k", 50)
    for number in (0, 2):
        shutil.copy(image(made, number), tmp_path / f"000{number + 1}_c1s1_000000_00.png")
    flags = ("--gallery", tmp_path / "g", "--model", command[3], *SIZE)
    result(capsys, "extract", tmp_path, *flags)
    asked, held = Gallery.open(str(tmp_path / "g")), Gallery.open(str(command[1]))
    scores = asked.features().read(0, 2) @ held.features().read(0, 40).T
    for ranked, expected in zip(told["results"], scores, strict=True):
        hits = ranked["hits"]
        assert len(hits) == 40
        assert [hit["score"] for hit in hits] == pytest.approx(np.sort(expected)[::-1], abs=1e-6)
        assert [expected[hit["row_id"]] for hit in hits] == pytest.approx(
            [hit["score"] for hit in hits], abs=1e-6
        )


def test_a_folder_stands_for_its_images(capsys, made, command):
    one = result(capsys, "search", made[0] / "images", *command)
    each = result(capsys, "search", *(image(made, i) for i in range(3)), *command)
    assert one["results"] == each["results"]
    assert [ranked["image"] for ranked in one["results"]] == [str(image(made, i)) for i in range(3)]


def test_the_batch_changes_no_list(capsys, made, command):
    first = result(capsys, "search", made[0] / "images", *command)
    second = result(capsys, "search", made[0] / "images", *command, "--batch-size", 1)
    for a, b in zip(first["results"], second["results"], strict=True):
        assert [hit["path"] for hit in a["hits"]] == [hit["path"] for hit in b["hits"]]


def test_images_that_do_not_decode_are_told_and_the_others_searched(
    capsys, made, command, tmp_path
):
    (tmp_path / "text.jpg").write_text("no picture")
    Image.new("RGB", (16, 32), "white").save(tmp_path / "white.png")  # the network gives NaN
    flags = (tmp_path / "text.jpg", image(made, 1), tmp_path / "white.png", tmp_path / "none.jpg")
    status, out, _ = run(capsys, "search", *flags, *command)
    assert status == 1
    assert str(image(made, 1)) in out
    for name, reason in (
        ("text.jpg", "not-an-image"), ("white.png", "bad-feature"), ("none.jpg", "missing"),
    ):  # fmt: skip
        assert f"not searched: {tmp_path / name}: {reason}" in out
    line = refused(capsys, "search", tmp_path / "text.jpg", tmp_path / "none.jpg", *command)
    assert "none of the images can be used" in line
    assert "text.jpg: not-an-image" in line


def test_files_of_too_many_bytes_are_not_read(capsys, made, command):
    sizes = [image(made, number).stat().st_size for number in range(3)]
    flags = ("--max-bytes", max(sizes) - 1)
    status, out, _ = run(capsys, "search", made[0] / "images", *command, *flags)
    assert status == 1
    largest = image(made, sizes.index(max(sizes)))
    assert f"not searched: {largest}: too-large ({max(sizes):,} bytes are more" in out


def test_a_threshold_says_what_matches(capsys, made, command):
    flags = ("search", image(made, 0), *command, "-k", 40)
    hits = result(capsys, *flags)["results"][0]["hits"]
    threshold = hits[7]["score"]
    told = result(capsys, *flags, "--threshold", threshold)
    assert [hit["match"] for hit in told["results"][0]["hits"]] == [True] * 8 + [False] * 32
    assert told["threshold_from"] == "given"
    _, out, _ = run(capsys, *flags, "--threshold", threshold)
    assert f"a match has at least {threshold:.4f} (given)" in out
    assert "match" in out.splitlines()[1]


def test_the_calibrated_threshold_is_used(capsys, made, command, tmp_path):
    copy = shutil.copytree(command[1], tmp_path / "gallery")
    calibrated = result(capsys, "calibrate", "--gallery", copy, "--far", 0.1, "--replicates", 5)
    told = result(capsys, "search", image(made, 0), "--gallery", copy, *command[2:])
    assert told["threshold"] == calibrated["threshold"]
    assert told["threshold_from"] == "calibration of version 1"
    assert all(
        hit["match"] == (hit["score"] >= told["threshold"]) for hit in told["results"][0]["hits"]
    )


def test_a_pair_of_cameras_has_its_own_threshold(capsys, made, command, tmp_path):
    copy = shutil.copytree(command[1], tmp_path / "gallery")
    flags = ("search", image(made, 0), "--gallery", copy, *command[2:], "-k", 40)
    hits = result(capsys, *flags)["results"][0]["hits"]
    first, second = sorted({hit["camera"] for hit in hits})[:2]
    pairs = [
        {"query_camera": "far", "gallery_camera": first, "figures": {"threshold": 0.25}},
        {"query_camera": "far", "gallery_camera": second, "figures": None},
        {"query_camera": "near", "gallery_camera": second, "figures": {"threshold": -1.0}},
    ]
    write_calibration(Gallery.open(str(copy)), {"threshold": 0.75, "by_camera": pairs})
    told = result(capsys, *flags, "--query-camera", "far")
    hits = told["results"][0]["hits"]
    assert {hit["threshold"] for hit in hits if hit["camera"] == first} == {0.25}
    assert {hit["threshold"] for hit in hits if hit["camera"] != first} == {0.75}
    assert all(hit["match"] == (hit["score"] >= hit["threshold"]) for hit in hits)
    assert told["threshold_from"] == f"calibration of version 1; rows of {first} have their own"
    told = result(capsys, *flags)
    assert {hit["threshold"] for hit in told["results"][0]["hits"]} == {0.75}
    _, _, err = run(capsys, *flags, "--query-camera", "unseen")
    assert (
        "images of camera unseen (calibrate by camera first): all rows get the general one" in err
    )
    _, _, err = run(capsys, "search", image(made, 0), *command, "--query-camera", "far")
    assert "no row is marked" in err


def test_travel_times_leave_out_no_row_of_unknown_time(capsys, made, command, tmp_path):
    (tmp_path / "t.csv").write_text("from,to,least\n1,2,inf\n1,3,inf\n")
    flags = ("--query-camera", 1, "--query-time", "2026-03-01T12:00", "--travel-times")
    plain = result(capsys, "search", image(made, 0), *command)
    told = result(capsys, "search", image(made, 0), *command, *flags, tmp_path / "t.csv")
    assert (plain["rows_excluded"], told["rows_excluded"]) == (None, 0)
    assert told["results"] == plain["results"]
    _, out, _ = run(capsys, "search", image(made, 0), *command, *flags, tmp_path / "t.csv")
    assert "travel times leave out 0 more rows" in out


def test_the_page_shows_the_crops_that_are_still_there(capsys, made, command, tmp_path):
    flags = ("search", image(made, 0), image(made, 1), *command, "-k", 40, "--html")
    told = result(capsys, *flags, tmp_path / "page.html")
    assert told["html"] == str(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg") == 82
    gone = sorted((made[0] / "source").iterdir())[3]
    away = gone.rename(tmp_path / gone.name)
    try:
        _, _, err = run(capsys, *flags, tmp_path / "page.html")
    finally:
        away.rename(gone)
    assert f"cannot show 1 of the crops in the lists: {gone.name}: missing" in err
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg") == 80
    assert "1 crop is no longer where it was" in page
    assert sorted(each.name for each in tmp_path.iterdir()) == ["page.html"]


@pytest.mark.ray
def test_workers_change_nothing(capsys, made, command, tmp_path, cluster):
    """Of a search, nor of the neighbor graph that `link` rests on."""
    plain = result(capsys, "search", made[0] / "images", *command)
    assert result(capsys, "search", made[0] / "images", *command, "--workers", 2) == plain
    linking = ("link", "--gallery", command[1], "--threshold", 0.5, "--out")
    result(capsys, *linking, tmp_path / "here.csv")
    result(capsys, *linking, tmp_path / "there.csv", "--workers", 2)
    assert (tmp_path / "here.csv").read_text() == (tmp_path / "there.csv").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-k", 0), "-k must be at least 1"),
        (("--batch-size", 0), "--batch-size must be at least 1"),
        (("--max-bytes", 0), "--max-bytes must be at least 1"),
        (("--workers", -1), "--workers must be at least 0"),
        (("--threshold", 1.2), "cosine similarity from -1 to 1"),
        (("--not-own-camera",), "give --query-camera"),
        (("--travel-times", "t.csv"), "give --query-camera and --query-time"),
        (("--html", "{tmp}"), "must be a file in a folder"),
        (("--html", "{tmp}/none/page.html"), "must be a file in a folder"),
        (("--version", 0), "has no row in version 0"),
        (("--version", 9), "version 9"),
        (("--at", "2001-01-01"), "no version is as old as"),
        (("--at", "noon"), "--at 'noon' is not a time"),
    ],
)
def test_wrong_arguments(capsys, made, command, tmp_path, flags, message):
    flags = [str(flag).replace("{tmp}", str(tmp_path)) for flag in flags]
    assert message in refused(capsys, "search", image(made, 0), *command, *flags)


def test_another_network_is_refused_by_name(capsys, made, command, tmp_path):
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = Tiny().eval()
        network.convolution.reset_parameters()
    torch.jit.script(network).save(str(tmp_path / "other.pt"))
    flags = ("--gallery", command[1], "--model", tmp_path / "other.pt")
    line = refused(capsys, "search", image(made, 0), *flags)
    assert "other.pt is not the network of" in line
    assert "give the file that the gallery was extracted with" in line


def test_a_gallery_of_another_networks_features(capsys, made, command, tmp_path):
    labeled_gallery(tmp_path / "g", *people(3, 9))
    flags = ("--gallery", tmp_path / "g", *command[2:])
    assert "000000000000... there" in refused(capsys, "search", image(made, 0), *flags)


def test_the_products_are_told(capsys, made, command):
    made_of = result(capsys, "search", image(made, 0), image(made, 2), *command)["products"]
    assert made_of["pairs"] == made_of["floats"] == 2 * 40
    assert 0 < made_of["scored"] <= made_of["pairs"]
    err = run(capsys, "search", image(made, 0), *command, "--verbose")[2]
    assert "search: products 100.0% of float32" in err
