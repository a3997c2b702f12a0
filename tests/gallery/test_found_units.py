"""What interrupted runs left, and the next run finds."""

import logging
from dataclasses import replace

from pipeline.gallery.files.storage import temporary_name
from pipeline.gallery.found_units import FoundUnits
from tests.gallery.making import contents, expected, path_of, reject_paths, unit


def test_finished_units_are_committed_by_the_next_run(gallery, caplog):
    good = unit(gallery.target, range(20, 25), rejected=[21])
    bad = unit(gallery.target, range(25, 30))
    path = gallery._root / bad.path
    path.write_bytes(path.read_bytes()[:-20])
    half = temporary_name(gallery._root / "_units", "half")
    half.write_bytes(b"x")
    found = gallery.find_units()
    assert found.units == (good,)
    with caplog.at_level(logging.WARNING):
        gallery.clear(replace(found, units=()))
    assert bad.path in caplog.text
    assert "done again" in caplog.text
    assert not path.exists()
    assert not half.exists()
    later = gallery.commit(found.units, run_id="x")
    assert list((gallery._root / "_units").iterdir()) == []
    assert contents(later) == expected(set(range(25)) - {12, 21})
    assert reject_paths(later) == [path_of(12), path_of(21)]
    assert later.find_units() == FoundUnits((), (), ())


def test_units_of_no_use_go_with_their_rejects(gallery):
    before = {path for path in gallery._root.rglob("*") if path.is_file()}
    unit(gallery.target, range(20, 25), rejected=[21])
    unit(gallery.target, range(25, 27), rejected=[25, 26])
    found = gallery.find_units()
    assert len(found.units) == 2
    gallery.clear(found)
    assert {path for path in gallery._root.rglob("*") if path.is_file()} == before
    assert contents(gallery) == expected(set(range(20)) - {12})


def test_a_run_with_the_same_plan_takes_the_found_units(gallery):
    plan = [range(20, 30), range(30, 40), range(40, 50)]
    unit(gallery.target, plan[0])
    unit(gallery.target, plan[2])
    found = {record.first_row_id: record for record in gallery.find_units().units}
    assert sorted(found) == [20, 40]
    units = [found.get(ids.start) or unit(gallery.target, ids) for ids in plan]
    assert contents(gallery.commit(units, run_id="x")) == expected(set(range(50)) - {12})


def test_removed_rows_do_not_come_back(gallery):
    """The file of a removed row is still there, for readers of the older version."""
    later = gallery.commit([], run_id="erase", removes=[3])
    assert later.find_units() == FoundUnits((), (), ())
    assert contents(gallery) == expected(set(range(20)) - {12})
