"""A gallery's images with another network or recipe, in a gallery of their own."""

import pytest

from pipeline.archive.listing import source as listing
from pipeline.gallery.files.schema import SCALAR_COLUMNS
from pipeline.gallery.table import Gallery
from tests.archive.listing.test_tars import save_tar
from tests.archive.video.making import mot, save_video
from tests.jobs.running import SIZE, refused, result
from tests.stages.making import save_network, save_source


@pytest.fixture
def made(capsys, tmp_path):
    """The folder of a gallery of files, of a tar's members, and of rejects."""
    source = save_source(tmp_path / "source", 12)
    names = sorted(source.iterdir())
    save_tar(source / "z.tar", [(path.name, path.read_bytes()) for path in names[8:]])
    for path in names[8:]:
        path.unlink()
    (source / "0001_c1s1_000900_00.jpg").write_bytes(b"no picture")
    (source / "0001_c1s1_000901_00.jpg").write_bytes(b"")
    network = save_network(tmp_path).path
    result(capsys, "extract", source, "--gallery", tmp_path / "old", "--model", network, *SIZE)
    return tmp_path


def command(folder, out="new", *flags):
    paths = ("--gallery", folder / "old", "--out", folder / out, "--model", folder / "tiny.pt")
    return ("re-extract", *paths, "--height", 24, "--width", 16, "--actors", 0, *flags)


def test_rows_are_those_of_the_old_gallery_without_a_listing(capsys, made, monkeypatch):
    def never(*_):
        raise AssertionError("the source was listed")

    monkeypatch.setattr(listing, "walk", never)
    before = Gallery.open(str(made / "old"))
    told = result(capsys, *command(made, "new", "--flip"))
    assert (told["images"], told["rows"], told["version"]) == (12, 12, 1)
    assert told["rejects"] == {"empty": 1, "not-an-image": 1}
    after = Gallery.open(str(made / "new"))
    names = ["path", "identity", "camera", "frame", "size", "mtime", "content_hash"]
    assert after.rows(names).sort_by("path").to_pylist() == (
        before.rows(names).sort_by("path").to_pylist()
    )
    assert after.fingerprint != before.fingerprint
    assert after.properties["source"] == before.properties["source"]
    assert Gallery.open(str(made / "old")).version == before.version
    again = result(capsys, *command(made, "new", "--flip"))
    assert (again["unchanged"], again["version"]) == (12, 1)


def test_the_features_are_those_of_an_extraction(capsys, made):
    result(capsys, *command(made))
    flags = ("--height", 24, "--width", 16, "--layout", "market1501", "--actors", 0)
    told = result(
        capsys, "extract", made / "source", "--gallery", made / "straight",
        "--model", made / "tiny.pt", *flags,
    )  # fmt: skip
    assert told["rows"] == 12
    found, straight = (Gallery.open(str(made / name)) for name in ("new", "straight"))
    names = [name for name in SCALAR_COLUMNS if name != "row_id"]  # a reject there took one
    assert found.rows(names).to_pylist() == straight.rows(names).to_pylist()
    assert found.features().read(0, 12).tobytes() == straight.features().read(0, 12).tobytes()
    went_on = result(
        capsys, "extract", made / "source", "--gallery", made / "new", "--model", made / "tiny.pt",
        *flags,
    )  # fmt: skip
    assert (went_on["unchanged"], went_on["version"]) == (13, 1)


def test_images_that_are_gone_become_rejects(capsys, made):
    sorted((made / "source").glob("*.png"))[0].unlink()
    save_tar(made / "source" / "z.tar", [])
    told = result(capsys, *command(made))
    assert told["rows"] == 7
    assert told["rejects"] == {"missing": 5, "empty": 1, "not-an-image": 1}


def test_what_the_old_network_could_not_do_is_left_to_the_next_extract(capsys, made):
    old = Gallery.open(str(made / "old"))
    rejects = old.rejects()
    place = rejects.schema.get_field_index("reason")
    told = [
        "bad-feature" if reason == "not-an-image" else reason
        for reason in rejects["reason"].to_pylist()
    ]
    old.commit([], run_id="other", rejects=rejects.set_column(place, "reason", [told]))
    assert result(capsys, *command(made))["rejects"] == {"empty": 1}


def test_an_older_version_is_taken_where_it_is_named(capsys, made):
    assert result(capsys, *command(made, "new", "--version", 0))["rows"] == 0
    assert "version 9 does not exist" in refused(capsys, *command(made, "new", "--version", 9))


def test_a_gallery_is_never_its_own_copy(capsys, made):
    assert "is the gallery itself" in refused(capsys, *command(made, "old"))
    assert "is the gallery itself" in refused(capsys, *command(made, "x/../old"))


def test_a_gallery_of_another_recipe_is_refused(capsys, made):
    result(capsys, *command(made))
    line = refused(capsys, *command(made, "new", "--flip"))
    assert "another recipe (flip: False here, True there)" in line


def test_boxes_of_videos_and_pictures_are_cut_again(capsys, tmp_path):
    boxes = [(frame, 1, 5, 6, 30, 40) for frame in range(0, 40, 7)]
    for name in ("a", "b"):
        save_video(tmp_path / "v" / f"{name}.mp4", frames=40)
        (tmp_path / "v" / f"{name}.txt").write_text(mot([*boxes, (3, 2, 1, 1, 0, 9)]))
    network = save_network(tmp_path).path
    here = ("--model", network, "--actors", 0, "--width", 16)
    result(capsys, "extract", tmp_path / "v", "--gallery", tmp_path / "old", "--height", 32, *here)
    flags = (*here, "--height", 24)
    straight = tmp_path / "straight"
    result(capsys, "extract", tmp_path / "v", "--gallery", straight, *flags)
    again = ("re-extract", "--gallery", tmp_path / "old", "--out", tmp_path / "new", *flags)
    told = result(capsys, *again)
    assert (told["rows"], told["rejects"]) == (2 * len(boxes), {"no-area": 2})
    galleries = [Gallery.open(str(each)) for each in (tmp_path / "new", straight)]
    columns = [name for name in SCALAR_COLUMNS if name != "row_id"]
    found = [
        sorted(
            (row["path"], *row.values(), feature.tobytes())
            for row, feature in zip(gallery.rows(columns).to_pylist(), gallery.array(), strict=True)
        )
        for gallery in galleries
    ]
    assert found[0] == found[1]
    assert result(capsys, *again)["unchanged"] == 2 * len(boxes)

    (tmp_path / "v" / "b.mp4").unlink()
    save_video(tmp_path / "v" / "a.mp4", frames=30)
    gone = (*again[:3], "--out", tmp_path / "third", *flags, "--max-rejects", 1)
    told = result(capsys, *gone)
    rejects = Gallery.open(str(tmp_path / "third")).rejects().to_pylist()
    reasons = {row["path"]: row["reason"] for row in rejects}
    assert told["rows"] == sum(frame < 30 for frame, *_ in boxes)
    assert told["rows"] + len(reasons) == 2 * len(boxes) + 2
    assert reasons["a.mp4#f=35&b=5,6,30,40"] == "no-frame"
    assert {reasons[path] for path in reasons if path.startswith("b.mp4#f=7&")} == {"missing-video"}
