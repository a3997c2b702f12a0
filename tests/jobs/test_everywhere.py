"""erase --purge names what was made from the rows and lies elsewhere; --everywhere removes it."""

import json
import shutil

import numpy as np
import pytest

from pipeline.gallery.outputs import listed_in_galleries
from pipeline.gallery.table import Gallery
from tests.jobs.labeled import labeled_gallery, people
from tests.jobs.running import SIZE, refused, result, run
from tests.stages.making import save_network, save_source


@pytest.fixture
def place(capsys, tmp_path):
    """A gallery of crops, and all that can be made from it."""
    source, model = save_source(tmp_path / "source", 12), save_network(tmp_path).path
    g = tmp_path / "g"
    made = {
        "extract": (source, "--gallery", g, "--model", model, *SIZE),
        "expand": (g, "--out", tmp_path / "expanded", "-k", 2),
        "link": (g, "--out", tmp_path / "l.parquet", "--threshold", 0.5),
        "evaluate": ("--query", g, "--gallery", tmp_path / "expanded", "--replicates", 0,
            "--out", tmp_path / "report"),
        "search": (next((tmp_path / "source").iterdir()), "--gallery", g, "--model", model,
            "--html", tmp_path / "page.html"),
        "export": (g, "--out", tmp_path / "fast", "--format", "fast-reid"),
    }  # fmt: skip
    for verb, flags in made.items():
        assert run(capsys, verb, *flags)[0] == 0
    assert run(capsys, "export", g, "--out", tmp_path / "exported")[0] == 0
    taken = ("import", tmp_path / "exported" / "features.npy", "--format", "npy")
    assert run(capsys, *taken, "--gallery", tmp_path / "imported")[0] == 0
    again = ("re-extract", g, "--out", tmp_path / "re", "--model", model, "--flip", "--actors", 0)
    assert run(capsys, *again)[0] == 0
    return tmp_path


FILES = ("l.parquet", "report", "page.html", "fast", "exported")
GALLERIES = ("expanded", "imported", "re")


def test_what_still_holds_the_rows_is_named_and_then_purged(capsys, place):
    gone = Gallery.open(str(place / "g")).rows(["path"])["path"][3].as_py()
    flags = ("erase", place / "g", "--purge", "--everywhere", "--yes")
    _, _, err = run(capsys, "erase", place / "g", "--ids", 3, "--purge", "--dry-run")
    assert f"kept and named again if it may hold erased rows: report {place}" in err
    _, out, _ = run(capsys, "erase", place / "g", "--ids", 3, "--purge")
    for name in (*FILES, *GALLERIES):
        assert f"{place / name} (made from version 1)" in out
        assert (place / name).exists()
    assert out.count("STILL THERE, and may hold the rows: ") == 8
    assert "--purge --everywhere removes those that it can reach" in out
    (place / "page.html").write_text("changed by hand")
    _, out, err = run(capsys, *flags)
    assert f"purged too if it may hold erased rows: link table {place / 'l.parquet'} (" in err
    assert f"deleted too: report {place / 'report'} (made from version 1)" in out
    assert f"purged too: expanded gallery {place / 'expanded'} (made from version 1)" in out
    assert f"(made from version 1): {place / 'page.html'} was changed since (SHA-256)" in out
    assert "remove those yourself; the next purge reports whether they are gone" in out
    assert [name for name in FILES if (place / name).exists()] == ["page.html"]
    expanded = Gallery.open(str(place / "expanded"))
    assert (expanded.count, len(expanded.history())) == (11, 1)
    assert gone not in expanded.rows(["path"])["path"].to_pylist()
    for name in ("imported", "re"):
        told = result(capsys, "erase", place / name, "--path", gone, "--purge")
        assert told["rows_erased"] == 1
    (place / "page.html").unlink()
    told = result(capsys, *flags)
    assert told["purged"]["outputs"] == []
    anew = place / "anew"
    assert run(capsys, "expand", place / "g", "--out", anew, "-k", 2)[0] == 0
    assert np.array_equal(Gallery.open(str(anew)).array(), expanded.array())
    for name in ("g", "expanded", "imported", "re"):
        assert result(capsys, "verify", place / name)["findings"] == []


def test_a_gallery_without_rows_and_one_that_cannot_be_purged(capsys, tmp_path):
    features, identity, camera = people(6, 20, dimension=8)
    labeled_gallery(tmp_path / "p", features, identity, camera)
    expanding = ("expand", tmp_path / "p", "-k", 2, "--out")
    for name in ("e", "other", "broken"):
        assert run(capsys, *expanding, tmp_path / name)[0] == 0
    assert run(capsys, "export", tmp_path / "e", "--out", tmp_path / "x")[0] == 0
    shutil.rmtree(tmp_path / "broken" / "_delta_log")
    shutil.rmtree(tmp_path / "other")
    labeled_gallery(tmp_path / "other", features, identity, camera)
    everything = ("--where", "row_id >= 0", "--purge", "--everywhere", "--yes")
    told = result(capsys, "erase", tmp_path / "p", *everything)
    found = {each["place"]: each for each in told["purged"]["outputs"]}
    assert found[str(tmp_path / "e")]["is_removed"]
    assert found[str(tmp_path / "x")]["is_removed"]
    assert Gallery.open(str(tmp_path / "e")).count == 0
    assert not (tmp_path / "x").exists()
    other, broken = found[str(tmp_path / "other")], found[str(tmp_path / "broken")]
    assert "was made from another gallery since" in other["reason"]
    assert str(tmp_path / "broken") in broken["reason"]


@pytest.mark.parametrize("kind", ["report", "export", "link table", "search page", "song"])
def test_a_planted_list_deletes_no_file_of_others(capsys, tmp_path, kind):
    features, identity, camera = people(6, 20, dimension=8)
    gallery = labeled_gallery(tmp_path / "p", features, identity, camera)
    name = {"report": "report.json", "export": "rows.csv"}.get(kind, "thesis.html")
    precious = tmp_path / "home" / name
    precious.parent.mkdir()
    precious.write_text("mine")
    whole = kind in ("report", "export")
    with listed_in_galleries(
        kind, *((precious.parent, [gallery], name) if whole else (precious, [gallery]))
    ):
        pass
    told = result(capsys, "erase", tmp_path / "p", "--ids", 1, "--purge", "--everywhere")
    (found,) = told["purged"]["outputs"]
    assert found["reason"] == "its files are not what this tool writes"
    assert precious.read_text() == "mine"


def test_a_copy_purges_nothing_that_was_made_from_the_original(capsys, tmp_path):
    features, identity, camera = people(6, 20, dimension=8)
    labeled_gallery(tmp_path / "p", features, identity, camera)
    assert run(capsys, "export", tmp_path / "p", "--out", tmp_path / "x")[0] == 0
    assert run(capsys, "expand", tmp_path / "p", "--out", tmp_path / "e", "-k", 2)[0] == 0
    shutil.copytree(tmp_path / "p", tmp_path / "copy")
    rest = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    flags = ("erase", tmp_path / "copy", "--ids", 1, "--purge")
    _, out, err = run(capsys, *flags, "--everywhere")
    assert err.count("kept and named again if it may hold erased rows") == 2
    assert out.count(f": {tmp_path / 'p'} listed it, of which this gallery is a copy") == 2
    same = {path for path, data in rest.items() if path.exists() and path.read_bytes() == data}
    assert {path for path in rest if tmp_path / "copy" not in path.parents} <= same


def test_what_a_copy_of_rows_that_were_purged_says(capsys, tmp_path):
    features, identity, camera = people(6, 20, dimension=8)
    labeled_gallery(tmp_path / "p", features, identity, camera)
    assert run(capsys, "export", tmp_path / "p", "--out", tmp_path / "x")[0] == 0
    assert run(capsys, "erase", tmp_path / "p", "--ids", 1, "--purge")[0] == 0
    taken = ("import", tmp_path / "x" / "features.npy", "--format", "npy")
    status, _, err = run(capsys, *taken, "--gallery", tmp_path / "back")
    assert status == 0
    assert "which may hold rows that were erased there" in err
    assert "--everywhere goes with --purge" in refused(
        capsys, "erase", tmp_path / "p", "--ids", 2, "--everywhere"
    )
    about = json.loads((tmp_path / "x" / "gallery.json").read_text())
    assert about["version"] == 1
