"""Verdicts in a bucket: several writers, cut off at any request, and a purge."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.gallery.files.places import root_of
from pipeline.gallery.upkeep.verify import verify
from pipeline.gallery.verdicts.entries import read_entries
from tests.gallery.crashing import interrupted
from tests.gallery.making import new_gallery, path_of, unit
from tests.gallery.test_crashes import Crash, crash, points
from tests.gallery.test_verdicts import erased, pairs, purged, say


@pytest.fixture
def gallery(bucket):
    empty = new_gallery(bucket)
    return empty.commit([unit(empty.target, range(10))], run_id="first")


def test_no_entry_of_several_writers_is_lost(gallery):
    def tell(who):
        for b in range(1, 4):
            say(gallery, (0, b, "same"), who=who)

    with ThreadPoolExecutor() as pool:
        list(pool.map(tell, ("ann", "bob", "cy")))
    told = sorted((each["who"], each["b"]) for each in read_entries(gallery._root).to_pylist())
    assert told == [(who, b) for who in ("ann", "bob", "cy") for b in range(1, 4)]
    assert verify(gallery).findings == ()


def test_cut_off_anywhere_an_entry_is_there_or_not(gallery):
    say(gallery, (0, 1, "same"))
    with interrupted(-1, crash) as seen:
        say(gallery, (2, 3, "same"))
    for operation in points(list(seen)):
        say(gallery, (2, 3, "withdrawn"))
        with interrupted(operation, crash, dead=True), pytest.raises(Crash):
            say(gallery, (2, 3, "different"))
        assert pairs(gallery) in (([[0, 1]], []), ([[0, 1]], [[2, 3]]))
        say(gallery, (2, 3, "same"))
        assert pairs(gallery) == ([[0, 1], [2, 3]], [])
    assert verify(gallery).findings == ()


def test_a_purge_removes_verdicts_on_erased_rows(gallery):
    say(gallery, (0, 3, "same"), comment="a red bag")
    say(gallery, (1, 3, "different"), (5, 4, "same"))
    after = erased(gallery, 3)
    assert purged(after).verdicts_removed == 2
    held = b"".join(place.read_bytes() for place in root_of(gallery.location).rglob("*"))
    assert path_of(3).encode() not in held and b"a red bag" not in held
    assert pairs(after) == ([[4, 5]], [])
    assert verify(after).findings == ()
