import logging

import numpy as np
import pyarrow.parquet as pq
import pytest

import regallery as rg
from pipeline.core.blocks import ArrayRows
from pipeline.core.maps.fuzzy import memberships
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.neighbors.topk import search
from pipeline.errors import InputError
from pipeline.gallery import map_files
from pipeline.gallery.derived import commit_derived, create_derived
from pipeline.gallery.files.places import root_of
from pipeline.gallery.map_files import GalleryMap, write_map
from pipeline.gallery.opening import check_location, lock_gallery
from pipeline.gallery.upkeep import purge as purging
from pipeline.gallery.upkeep.leftovers import clean
from pipeline.gallery.upkeep.purge import purge
from pipeline.gallery.upkeep.verify import verify
from pipeline.runs.mapping import gallery_map
from pipeline.stages.maps import lay_out
from tests.gallery.making import new_gallery, unit
from tests.stages.making import Elsewhere

QUICK = rg.MapSettings(neighbors=4, epochs=4)


def filled(folder, rows=60):
    gallery = new_gallery(folder)
    return gallery.commit([unit(gallery.target, range(rows))], run_id="first")


@pytest.fixture
def gallery(tmp_path):
    return filled(tmp_path / "gallery")


def mapped(place, **options):
    return gallery_map(place, settings=options.pop("settings", QUICK), **options)


def names(gallery):
    folder = root_of(gallery.location) / "_maps"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def same(one, other):
    return (one.row_ids == other.row_ids).all() and (one.points == other.points).all()


def purged(gallery):
    with lock_gallery(gallery.location, "purge") as lock:
        return purge(gallery, lock)


def test_a_map_is_that_of_all_rows_and_is_read_again_to_the_bit(gallery, monkeypatch):
    found = mapped(gallery.location)
    assert found.row_ids.tolist() == gallery.row_ids().tolist()
    rows = gallery.array()
    assert (found.points == lay_out(ArrayRows(rows), neighbors(rows, 4), QUICK)).all()
    assert (found.version, found.placed, found.laid_out, len(found)) == (1, 0, 1, 60)
    assert names(gallery) == ["000000000001-000000000001.parquet"]
    check_location(gallery.location)  # its folder is the gallery's own
    assert not verify(gallery).findings
    monkeypatch.setattr("pipeline.runs.mapping.lay_out", None)
    again = mapped(gallery)
    assert same(found, again)
    assert (again.version, again.settings, again.placed) == (1, QUICK, 0)


def test_a_map_holds_row_ids_and_points_only(gallery):
    mapped(gallery)
    (name,) = names(gallery)
    assert pq.read_schema(root_of(gallery.location) / "_maps" / name).names == ["row_id", "x", "y"]


def test_a_map_is_the_same_by_several_workers(gallery, tmp_path):
    there = filled(tmp_path / "there")
    found = mapped(gallery), mapped(there, execution=Elsewhere(workers=3), scratch=tmp_path)
    assert same(*found)
    later = [
        each.commit([unit(each.target, range(60, 64))], run_id="b") for each in (gallery, there)
    ]
    assert same(mapped(later[0]), mapped(later[1], execution=Elsewhere(workers=3)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gallery", "there"]


def test_other_settings_make_another_map_in_place_of_the_first(gallery):
    first = mapped(gallery)
    other = rg.MapSettings(neighbors=4, epochs=4, seed=1)
    assert not same(first, mapped(gallery, settings=other))
    assert len(names(gallery)) == 1
    assert same(first, mapped(gallery))


def test_old_rows_keep_their_points_and_new_ones_lie_at_their_neighbors(gallery):
    before = mapped(gallery)
    later = gallery.commit(
        [unit(gallery.target, range(60, 63))], run_id="second", removes=[0, 7, 59]
    )
    found = mapped(later.location)
    assert found.row_ids.tolist() == later.row_ids().tolist()
    kept = np.isin(before.row_ids, found.row_ids)
    assert (found.points[:57] == before.points[kept]).all()
    rows = later.array()
    near = search(rows[57:], rows[:57], 4)
    weights = memberships(near)
    wanted = (weights[..., None] * found.points[near.rows]).sum(axis=1) / weights.sum(axis=1)[
        :, None
    ]
    np.testing.assert_allclose(found.points[57:], wanted, atol=1e-5)
    assert (found.version, found.placed, found.laid_out) == (2, 3, 1)
    assert names(later)[-1] == "000000000002-000000000001.parquet"
    assert same(found, mapped(later))
    # Four more rows make seven of 64: too many, so all are laid out.
    last = later.commit([unit(gallery.target, range(63, 67))], run_id="third")
    found = mapped(last)
    assert (found.version, found.placed, found.laid_out) == (3, 0, 3)
    assert mapped(last.location, version=1).placed == 0
    with pytest.raises(InputError, match="is open at version 3, not 1"):
        mapped(last, version=1)


def test_a_version_without_new_rows_keeps_all_points(gallery):
    before = mapped(gallery)
    later = gallery.commit([], run_id="second", removes=[3])
    found = mapped(later)
    assert (found.placed, found.laid_out) == (0, 1)
    assert (found.points == np.delete(before.points, 3, axis=0)).all()


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_rows_have_a_map(tmp_path, rows):
    gallery = new_gallery(tmp_path / "gallery")
    if rows:
        gallery = gallery.commit([unit(gallery.target, range(rows))], run_id="first")
    found = mapped(gallery)
    assert found.points.shape == (rows, 2)
    assert np.isfinite(found.points).all()
    assert same(found, mapped(gallery))


def test_erased_rows_leave_the_map_and_a_purge_deletes_what_they_shaped(gallery):
    mapped(gallery)
    later = gallery.commit([], run_id="erase", removes=[7])
    found = mapped(later)
    assert 7 not in found.row_ids
    assert len(names(later)) == 2
    purged(later)
    assert names(later) == []
    assert mapped(later).laid_out == 2
    purged(later)
    assert names(later) == ["000000000002-000000000002.parquet"]
    assert not verify(later).findings


def test_a_map_of_a_version_that_was_purged_meanwhile_is_not_kept(gallery):
    found = mapped(gallery)
    later = gallery.commit([], run_id="erase", removes=[7])
    purged(later)
    with pytest.raises(InputError, match="version 1 was removed meanwhile"):
        write_map(later, found)
    assert names(later) == []


def test_a_map_that_is_stored_while_a_purge_is_under_way_goes_with_it(gallery, monkeypatch):
    found, real = mapped(gallery), purging.forget_before
    later = gallery.commit([], run_id="erase", removes=[7])

    def after_a_reader(root, version):
        assert names(gallery) == names(later)
        write_map(gallery, found)
        return real(root, version)

    monkeypatch.setattr(purging, "forget_before", after_a_reader)
    purged(later)
    assert names(later) == []


def test_a_clean_deletes_maps_of_versions_that_it_removes(gallery):
    mapped(gallery)
    later = gallery.commit([], run_id="second", removes=[3])
    with lock_gallery(gallery.location, "clean") as lock:
        clean(later, lock, keep=1)
    assert names(later) == []
    assert mapped(later).laid_out == 2


@pytest.mark.parametrize("change", ["bytes", "gone"])
def test_a_damaged_map_is_made_anew(gallery, caplog, change):
    found = mapped(gallery)
    path = root_of(gallery.location) / "_maps" / names(gallery)[0]
    if change == "bytes":
        path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)
    else:
        path.unlink()
    with caplog.at_level(logging.WARNING):
        assert same(found, mapped(gallery))
    assert "the map is made anew" in caplog.text
    caplog.clear()
    assert same(found, mapped(gallery))
    assert not caplog.text
    assert not verify(gallery).findings


def test_a_file_that_is_no_map_is_told(gallery):
    mapped(gallery)
    path = root_of(gallery.location) / "_maps" / names(gallery)[0]
    table = pq.read_table(path).drop_columns(["y"])
    map_files.checksums.write_recorded(path, lambda half: pq.write_table(table, half))
    with pytest.raises(rg.RunError, match="is not a map"):
        map_files.read_map(gallery, QUICK)


def test_a_map_that_cannot_be_stored_is_returned(gallery, monkeypatch, caplog):
    def full(*_):
        raise rg.RunError("the disk is full")

    monkeypatch.setattr("pipeline.runs.mapping.write_map", full)
    with caplog.at_level(logging.WARNING):
        assert len(mapped(gallery)) == 60
    assert "the map is not stored: the disk is full" in caplog.text


def test_a_derived_gallery_is_laid_out_whole(gallery, tmp_path):
    parameters = {"mode": "joint", "k": 2}
    with lock_gallery(str(tmp_path / "derived"), "expand") as lock:
        made = create_derived(str(tmp_path / "derived"), gallery, parameters, lock)
        first = commit_derived(made, gallery, gallery.features(), lock)
        mapped(first)
        later = gallery.commit([unit(gallery.target, range(60, 61))], run_id="second")
        second = commit_derived(first, later, later.features(), lock)
    assert mapped(second).placed == 0


def test_a_gallery_in_an_object_store_has_a_map(gallery, bucket):
    there = filled(f"{bucket}/gallery")
    found = mapped(there.location)
    assert same(found, mapped(gallery))
    later = there.commit([unit(there.target, range(60, 62))], run_id="second", removes=[5])
    assert mapped(later.location).placed == 2
    assert len(names(later)) == 2
    purged(later)
    assert names(later) == []


def test_points_that_are_not_one_for_each_row_are_refused():
    with pytest.raises(ValueError, match="one for each row"):
        GalleryMap(np.arange(2), np.zeros((3, 2), np.float32), 1, QUICK, 0, 1)
