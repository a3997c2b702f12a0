"""Tracklets of several galleries: those of the merged gallery, kept up to date, and erased."""

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.gallery.derived import derivation
from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.outputs import outputs_of
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.purge import purge
from pipeline.gallery.upkeep.verify import verify
from pipeline.runs.copying import merge
from pipeline.runs.everywhere import follow
from pipeline.runs.tracklets import update_tracklets
from tests.core.strategies import unit_rows
from tests.gallery.making import rejects_table
from tests.jobs.labeled import add_rows, labeled_gallery


def boxes(start, count, seed):
    """Features, identities, cameras, tracklets and qualities of some boxes; every fourth of none.

    Tracklets of the same name are in all galleries.
    """
    numbers = np.arange(start, start + count) // 3 % 7
    named = [None if row % 4 == 3 else f"v.mp4#t={n}" for row, n in enumerate(numbers)]
    quality = [None if row % 11 == 0 else 0.5 + row / count for row in range(count)]
    camera = [f"c{n % 3}" for n in numbers]
    told = {"tracklet": named, "quality": quality}
    return (unit_rows(count, 8, seed), (numbers + 1).tolist(), camera), told


@pytest.fixture
def galleries(tmp_path):
    made = []
    for number, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        plain, told = boxes(5 * number, 24, seed=number)
        made.append(labeled_gallery(tmp_path / name / "g", *plain, **told))
    return made


def contents(gallery):
    """What each row holds, but for its id and the place it was copied to."""
    names = ["path", "identity", "camera", "captured_at", "quality", "boxes", "tracklet"]
    rows = gallery.rows(names).to_pylist()
    return list(zip(rows, map(bytes, gallery.array()), strict=True))


def test_they_are_those_of_the_merged_gallery(galleries, tmp_path):
    many = update_tracklets(galleries, str(tmp_path / "many"))
    merge(galleries, str(tmp_path / "m"))
    one = update_tracklets(Gallery.open(str(tmp_path / "m")), str(tmp_path / "one"))
    assert (many.rows, many.boxes, many.without_tracklet) == (one.rows, 36, 12)
    made = Gallery.open(str(tmp_path / "many"))
    assert contents(made) == contents(Gallery.open(str(tmp_path / "one")))
    assert made.row_ids().tolist() == list(range(many.rows))
    assert derivation(made).parents == tuple(each.location for each in galleries)
    assert made.rows(["path"])["path"][0].as_py() == f"{tmp_path}/a/source/v.mp4#t=0"
    assert not verify(made).findings
    assert not update_tracklets(galleries, str(tmp_path / "many")).is_new_version


def test_they_follow_all_galleries_and_keep_their_ids(galleries, tmp_path):
    out = str(tmp_path / "t")
    update_tracklets(galleries, out)
    before = dict(
        zip(*Gallery.open(out).rows(["path", "row_id"]).to_pydict().values(), strict=True)
    )
    plain, told = boxes(0, 6, seed=9)
    told["tracklet"] = ["v.mp4#t=50"] * 3 + [None] * 3
    galleries[1] = add_rows(galleries[1], *plain, **told, path=[f"n{n}.jpg" for n in range(6)])
    gone = galleries[0].select("tracklet = 'v.mp4#t=1'")
    galleries[0] = galleries[0].commit([], run_id="e", removes=gone)
    assert update_tracklets(galleries, out).is_new_version
    after = dict(zip(*Gallery.open(out).rows(["path", "row_id"]).to_pydict().values(), strict=True))
    new = f"{tmp_path}/b/source/v.mp4#t=50"
    assert after.pop(new) == max(before.values()) + 1
    del before[f"{tmp_path}/a/source/v.mp4#t=1"]
    assert after == before
    with pytest.raises(InputError, match=r"was made .* from .*/a/g and .*/b/g, not made"):
        update_tracklets(galleries[0], out)
    with pytest.raises(InputError, match="give the gallery of the boxes"):
        update_tracklets([galleries[0], Gallery.open(out)], str(tmp_path / "u"))


@pytest.mark.parametrize("number", [0, 1])
def test_erasure_in_any_of_them_reaches_the_tracklets(galleries, tmp_path, number):
    out, other = str(tmp_path / "t"), 1 - number
    for version in range(4):  # its versions have other numbers
        refused = rejects_table([f"{version}.jpg"])
        galleries[other] = galleries[other].commit([], run_id=f"r{version}", rejects=refused)
    update_tracklets(galleries, out)
    galleries[number] = galleries[number].commit([], run_id="a", removes=[0])
    update_tracklets(galleries, out)  # an older version of the tracklets still has the row's share
    changed = galleries[number].commit([], run_id="b", removes=[1])
    with lock_gallery(changed.location, "purge") as lock:
        outputs = purge(changed, lock).outputs
    assert [(each.kind, each.version) for each in outputs] == [("expanded gallery", 1)]
    (done,) = follow(changed, outputs, purge=True)
    assert done.is_removed
    left = Gallery.open(out)
    assert len(left.history()) == 1
    galleries[number] = changed
    fresh = update_tracklets(galleries, str(tmp_path / "fresh")).gallery
    assert sorted(contents(left), key=str) == sorted(contents(Gallery.open(fresh)), key=str)
    assert {str(each.place) for each in outputs_of(changed)} >= {out}
