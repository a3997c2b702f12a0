"""Merged and split galleries: their rows, how they follow, and that erasure reaches them."""

import shutil
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.gallery.copies import holds_others, is_copy, place_of
from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.purge import purge
from pipeline.gallery.upkeep.verify import verify
from pipeline.model.functions import NetworkFunction
from pipeline.runs import copying
from pipeline.runs.copying import merge, split
from pipeline.runs.everywhere import follow
from pipeline.runs.extraction import extract
from pipeline.runs.measuring import evaluate
from pipeline.runs.settings import FigureSettings
from tests.gallery.making import rejects_table
from tests.jobs.labeled import add_rows, labeled_gallery, people

EDGES = (0, 30, 34, 60)


@pytest.fixture
def galleries(tmp_path):
    """Three galleries of 30, 4 and 26 rows, from sources of their own; the first has rejects."""
    features, identity, camera = people(6, 60, dimension=8, seed=2)
    when = [datetime(2024, 1 + row // 20, 1, row % 20, tzinfo=UTC) for row in range(60)]
    made = []
    for low, high in pairwise(EDGES):
        folder = tmp_path / f"{low}"
        folder.mkdir()
        told = features[low:high], identity[low:high], camera[low:high]
        made.append(labeled_gallery(folder / "g", *told, captured_at=when[low:high]))
    made[0] = made[0].commit([], run_id="r", rejects=rejects_table(["crops/x.jpg", "crops/y.jpg"]))
    return made


def assert_is_merged(merged, galleries):
    """Rows of each gallery, in order, with their features to the byte, and where they come from."""
    rows = merged.rows().to_pylist()
    found = {(row["origin"], row["origin_row"]): row for row in rows}
    assert len(found) == len(rows) == sum(each.count for each in galleries)
    place = {row["row_id"]: number for number, row in enumerate(rows)}
    for each in galleries:
        for number, row in enumerate(each.rows().to_pylist()):
            copy = found[place_of(each), row["row_id"]]
            assert copy["path"] == f"{each.properties['source']}/{row['path']}"
            kept = ("identity", "camera", "captured_at", "size")
            assert [copy[name] for name in kept] == [row[name] for name in kept]
            mine = merged.features().stored(np.array([place[copy["row_id"]]]))
            assert mine.tobytes() == each.features().stored(np.array([number])).tobytes()
    assert not verify(merged).findings


def test_a_merged_gallery_holds_the_rows_of_all_in_order(galleries, tmp_path):
    made = merge(galleries, str(tmp_path / "m"))
    merged = Gallery.open(str(tmp_path / "m"))
    assert (made.rows, made.rows_added, made.version) == (60, 60, 1)
    assert made.rejects == {"truncated": 2}
    assert merged.row_ids().tolist() == list(range(60))
    assert merged.rows(["origin_row"])["origin_row"].to_pylist() == [
        *range(30), *range(4), *range(26)
    ]  # fmt: skip
    assert_is_merged(merged, galleries)
    source = galleries[0].properties["source"]
    wanted = [f"{source}/crops/{name}.jpg" for name in "xy"]
    assert merged.rejects()["path"].to_pylist() == wanted
    queries = labeled_gallery(tmp_path / "q", *people(6, 30, dimension=8, seed=3))
    plain = FigureSettings(replicates=0)
    one, many = (evaluate(queries, held, figures=plain).baseline for held in (merged, galleries))
    assert one.lists.rows.tolist() == many.lists.rows.tolist()
    assert one.summary.mean_ap == many.summary.mean_ap
    assert merge(galleries, str(tmp_path / "m")).version == 1


def test_it_follows_its_galleries(galleries, tmp_path):
    out = str(tmp_path / "m")
    merge(galleries[:2], out)
    galleries[0] = galleries[0].commit([], run_id="e", removes=[3, 7], forget=["crops/x.jpg"])
    galleries[1] = add_rows(galleries[1], *people(3, 5, dimension=8, seed=8))
    made = merge(galleries, out)
    assert (made.rows_added, made.rows_removed, made.version) == (31, 2, 2)
    merged = Gallery.open(out)
    assert merged.row_ids().tolist() == [n for n in range(65) if n not in (3, 7)]
    assert_is_merged(merged, galleries)
    assert merged.rejects().num_rows == 1
    with pytest.raises(InputError, match=r"holds rows of .*/34/g: give that gallery too"):
        merge(galleries[:2], out)


def test_a_killed_merge_goes_on(galleries, tmp_path, monkeypatch):
    out = tmp_path / "m"
    monkeypatch.setattr(copying, "MOST_UNIT_ROWS", 8)
    calls = []

    def dies(*arguments):
        calls.append(arguments[1])
        if len(calls) == 5:
            raise KeyboardInterrupt
        return copying_write(*arguments)

    copying_write = copying.write_unit
    with monkeypatch.context() as patch:
        patch.setattr(copying, "write_unit", dies)
        with pytest.raises(KeyboardInterrupt):
            merge(galleries, str(out))
    assert Gallery.open(str(out)).version == 0
    left = {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert len(left) == 4
    made = merge(galleries, str(out))
    merged = Gallery.open(str(out))
    assert (made.rows, made.version, len(merged.snapshot.files)) == (60, 1, 9)
    assert left.items() <= {p.name: p.stat().st_mtime_ns for p in out.glob("*.parquet")}.items()
    assert_is_merged(merged, galleries)


def test_parts_of_a_killed_merge_of_older_versions_are_not_used(galleries, tmp_path, monkeypatch):
    out = tmp_path / "m"
    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "commit", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            merge(galleries, str(out))
    galleries[0] = galleries[0].commit([], run_id="e", removes=[3])
    merge(galleries, str(out))
    assert_is_merged(Gallery.open(str(out)), galleries)


def test_a_gallery_that_was_made_anew_is_copied_anew(galleries, tmp_path):
    """Its ids begin again, and mean other images."""
    out, place = str(tmp_path / "m"), galleries[1]._root
    merge(galleries, out)
    shutil.rmtree(place)
    plain = people(3, 6, dimension=8, seed=9)
    paths = ["crops/000000.jpg", *(f"new/{number}.jpg" for number in range(5))]
    galleries[1] = labeled_gallery(place, *plain, path=paths, content_hash=[b"x" * 16] * 6)
    made = merge(galleries, out)
    assert (made.rows_added, made.rows_removed) == (6, 4)
    assert_is_merged(Gallery.open(out), galleries)
    assert merge(galleries, out).version == made.version


def test_what_cannot_be_merged_is_refused(galleries, tmp_path):
    a, b, _ = galleries
    with pytest.raises(InputError, match="is one of the galleries that are merged"):
        merge([a, b], a.location)
    with pytest.raises(InputError, match="is a gallery of its own, not merged"):
        merge([a, b], galleries[2].location)
    same = labeled_gallery(a._root.parent / "h", *people(3, 5, dimension=8))
    with pytest.raises(
        InputError, match=r"5 paths are in two galleries, such as crops/000000\.jpg"
    ):
        merge([a, same], str(tmp_path / "m"))
    other = labeled_gallery(tmp_path / "o", *people(3, 5, dimension=8), weights="1" * 64)
    with pytest.raises(InputError, match="differ in weights"):
        merge([a, other], str(tmp_path / "m"))
    merge([a], str(tmp_path / "m"))
    with pytest.raises(InputError, match="with another recipe, storage or source"):
        merge([a, b], str(tmp_path / "m"))
    model = NetworkFunction(lambda crops: [[1.0, 2.0]] * len(crops), "two")
    with pytest.raises(InputError, match=r"is merged from .*: extract into the galleries"):
        extract(str(tmp_path), str(tmp_path / "m"), model)


def test_a_split_gallery_has_a_part_for_each_camera(galleries, tmp_path):
    merge(galleries, str(tmp_path / "m"))
    merged = Gallery.open(str(tmp_path / "m"))
    rows = merged.rows().to_pylist()
    for by, name_of in (
        ("camera", lambda row: f"camera-{row['camera']}"),
        ("month", lambda row: f"month-{row['captured_at']:%Y-%m}"),
        ("identity", lambda row: f"identity-{row['identity']}"),
        ("origin", lambda row: {30: "origin-g", 4: "origin-g~2", 26: "origin-g~3"}[
            sum(each["origin"] == row["origin"] for each in rows)]),
    ):  # fmt: skip
        made = split(merged, str(tmp_path / by), by)
        assert sum(each.rows for each in made.parts) == 60
        for part in made.parts:
            wanted = [row for row in rows if part.gallery.endswith(f"/{name_of(row)}")]
            gallery = Gallery.open(part.gallery)
            found = gallery.rows().to_pylist()
            assert [row["path"] for row in found] == [row["path"] for row in wanted]
            assert [row["origin_row"] for row in found] == [row["row_id"] for row in wanted]
            assert {row["origin"] for row in found} == {merged.location}
            positions = np.array([row["row_id"] for row in wanted])
            assert gallery.array().tobytes() == merged.array()[positions].tobytes()
            assert not verify(gallery).findings
    assert split(merged, str(tmp_path / "camera"), "camera").parts[0].rows_added == 0
    gone = merged.select("camera = 'c1'")
    merged = merged.commit([], run_id="e", removes=gone)
    made = split(merged, str(tmp_path / "camera"), "camera")
    assert [each.rows_removed for each in made.parts] == [0, len(gone), 0]


def test_erasure_reaches_copies_of_copies(galleries, tmp_path):
    a = galleries[0]
    merge(galleries, str(tmp_path / "m"))
    merged = Gallery.open(str(tmp_path / "m"))
    split(merged, str(tmp_path / "s"), "camera")
    path = f"{a.properties['source']}/{a.rows(['path'])['path'][5].as_py()}"
    secret = a.features().stored(np.array([5])).tobytes()
    a = a.commit([], run_id="e", removes=[5], forget=["crops/x.jpg"])
    merge([a, *galleries[1:]], str(tmp_path / "m"))  # a newer version, while an older has the row
    assert holds_others(merged.location, place_of(a), a.row_ids())
    with lock_gallery(a.location, "purge") as lock:
        outputs = purge(a, lock).outputs
    assert [output.kind for output in outputs] == ["merged gallery"]
    kept = follow(a, outputs, purge=False)
    assert not kept[0].is_removed
    followed = follow(a, outputs, purge=True)
    assert {each.kind for each in followed} == {"merged gallery", "part of a split gallery"}
    assert all(each.is_removed for each in followed)
    for place in (tmp_path / "m", *(tmp_path / "s").iterdir()):
        gallery = Gallery.open(str(place))
        assert path not in gallery.rows(["path"])["path"].to_pylist()
        for file in place.rglob("*"):
            assert not file.is_file() or secret not in file.read_bytes()
    assert Gallery.open(str(tmp_path / "m")).rejects().num_rows == 1
    assert is_copy(merged) and not is_copy(a)


def test_erasure_reaches_what_a_killed_merge_left(galleries, tmp_path, monkeypatch):
    out, a = tmp_path / "m", galleries[0]
    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "commit", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            merge(galleries, str(out))
    secret = a.features().stored(np.array([5])).tobytes()
    assert any(secret in file.read_bytes() for file in out.glob("*.parquet"))
    a = a.commit([], run_id="e", removes=[5])
    with lock_gallery(a.location, "purge") as lock:
        outputs = purge(a, lock).outputs
    assert [str(output.place) for output in outputs] == [str(out)]
    assert all(each.is_removed for each in follow(a, outputs, purge=True))
    assert not any(secret in file.read_bytes() for file in out.rglob("*") if file.is_file())
    merge([a, *galleries[1:]], str(out))
    assert_is_merged(Gallery.open(str(out)), [a, *galleries[1:]])


def test_an_erased_reject_leaves_the_merged_gallery(galleries, tmp_path):
    out, a = str(tmp_path / "m"), galleries[0]
    merge(galleries, out)
    a = a.commit([], run_id="e", forget=["crops/x.jpg"])
    with lock_gallery(a.location, "purge") as lock:
        outputs = purge(a, lock).outputs
    assert [str(output.place) for output in outputs] == [out]
    assert all(each.is_removed for each in follow(a, outputs, purge=True))
    merged = Gallery.open(out)
    kept = [f"{a.properties['source']}/crops/y.jpg"]
    assert (merged.rejects()["path"].to_pylist(), merged.count) == (kept, 60)
    assert len(merged.history()) == 1


def test_float16_stays_as_it_is_and_mixed_storage_is_float32(tmp_path):
    features, identity, camera = people(4, 20, dimension=8)
    halves = []
    for name in "ab":
        whole = labeled_gallery(tmp_path / f"w{name}", features, identity, camera)
        half = Gallery.create(
            str(tmp_path / name), recipe_json=whole.recipe_json, fingerprint=whole.fingerprint,
            dimension=8, dtype="float16", source=f"/{name}", layout="market1501",
        )  # fmt: skip
        rows = copying.copies_of(whole, np.arange(20), 0, half)
        unit = copying.write_unit(half.target, "u", range(20), rows, rejects_table([]))
        halves.append(half.commit([unit], run_id="a"))
    merge(halves, str(tmp_path / "m"))
    merged = Gallery.open(str(tmp_path / "m"))
    stored = halves[0].features().stored(np.arange(20))
    assert merged.features().stored(np.arange(20)).tobytes() == stored.tobytes()
    merge([halves[0], whole], str(tmp_path / "n"))
    mixed = Gallery.open(str(tmp_path / "n"))
    assert mixed.dtype == "float32"
    assert mixed.array()[:20].tobytes() == halves[0].array().tobytes()
