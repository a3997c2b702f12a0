"""The table of verdicts beside a gallery: many writers, kills, damage, versions, and purges."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import InputError, RunError
from pipeline.gallery import checksums
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.files.unit_files import write_unit
from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.upkeep.erase import erase
from pipeline.gallery.upkeep.purge import purge
from pipeline.gallery.upkeep.restore import restore
from pipeline.gallery.upkeep.selection import Selected
from pipeline.gallery.upkeep.verify import verify
from pipeline.gallery.verdicts.counting import count_verdicts, read_verdicts
from pipeline.gallery.verdicts.entries import VERDICT_SCHEMA, append_entries, read_entries
from tests.gallery.crashing import interrupted
from tests.gallery.making import new_gallery, path_of, rejects_table, unit_rows
from tests.gallery.making import unit as unit_of
from tests.gallery.test_crashes import Crash, crash, points


def entries(gallery, *told, who="ann", comment=None):
    """Entries on pairs of rows: two ids and a word."""
    rows = {row["row_id"]: row for row in gallery.rows().to_pylist()}
    return pa.Table.from_pylist(
        [
            {
                "a": a, "b": b, "verdict": word, "who": who, "at": datetime(2026, 3, 1, tzinfo=UTC),
                "version": gallery.version, "comment": comment,
                "path_a": rows[a]["path"], "path_b": rows[b]["path"],
                "hash_a": rows[a]["content_hash"], "hash_b": rows[b]["content_hash"],
            }
            for a, b, word in told
        ],
        VERDICT_SCHEMA,
    )  # fmt: skip


def say(gallery, *told, **others):
    return append_entries(gallery, entries(gallery, *told, **others))


def pairs(gallery):
    found = read_verdicts(gallery)
    return found.same.tolist(), found.different.tolist()


def hashed_unit(gallery, ids, paths, hashes):
    rows = unit_rows(gallery.target, list(ids), paths)
    place = rows.schema.get_field_index("content_hash")
    column = pa.array([each * 16 for each in hashes], rows.schema.field(place).type)
    rows = rows.set_column(place, rows.schema.field(place), column)
    return write_unit(gallery.target, f"u{ids.start}", ids, rows, rejects_table([]))


def two_images(empty):
    unit = hashed_unit(empty, range(2), ["a.jpg", "b.jpg"], [b"w", b"x"])
    return empty.commit([unit], run_id="a")


def erased(gallery, *ids):
    return erase(gallery, Selected(np.array(ids), (), 0))


def purged(gallery):
    with lock_gallery(gallery.location, "purge") as lock:
        return purge(gallery, lock)


def test_nothing_was_said(gallery):
    assert pairs(gallery) == ([], [])
    assert not (Path(gallery.location) / "_verdicts").exists()


def test_the_latest_entry_of_a_pair_counts(gallery):
    say(gallery, (5, 2, "same"), (3, 4, "different"), (6, 7, "same"))
    say(gallery, (4, 3, "same"), (7, 6, "withdrawn"))
    assert pairs(gallery) == ([[2, 5], [3, 4]], [])
    counted = count_verdicts(gallery)
    assert counted.entries.select(["a", "b", "path_a", "path_b"]).to_pylist() == [
        {"a": 2, "b": 5, "path_a": path_of(2), "path_b": path_of(5)},
        {"a": 3, "b": 4, "path_a": path_of(3), "path_b": path_of(4)},
    ]
    assert (len(counted.latest), counted.rows_gone) == (3, 0)
    say(gallery, (6, 7, "different"))
    assert pairs(gallery) == ([[2, 5], [3, 4]], [[6, 7]])
    assert len(read_entries(gallery._root)) == 6  # nothing is overwritten


def test_verdicts_on_rows_of_other_versions_wait(gallery):
    say(gallery, (0, 1, "same"), (2, 3, "different"))
    after = erased(gallery, 1)
    assert pairs(after) == ([], [[2, 3]])
    assert count_verdicts(after).rows_gone == 1
    assert pairs(gallery) == ([[0, 1]], [[2, 3]])
    assert pairs(restore(after, gallery.version)) == ([[0, 1]], [[2, 3]])


@pytest.mark.parametrize(("new_hash", "same"), [(b"x", [[0, 21]]), (b"y", [])])
def test_a_row_that_was_extracted_again_keeps_its_verdicts(empty, new_hash, same):
    first = two_images(empty)
    first = first.commit([hashed_unit(first, range(20, 21), ["z.jpg"], [b"x"])], run_id="b")
    say(first, (0, 1, "same"))
    new = hashed_unit(first, range(21, 23), ["b.jpg", "c.jpg"], [new_hash, b"x"])
    after = first.commit([new], run_id="c")
    assert pairs(after) == (same, [])
    back = hashed_unit(after, range(23, 24), ["a.jpg"], [b"w"])
    again = after.commit([back], run_id="d")  # now the larger id is that of the other row
    assert pairs(again) == ([[21, 23]] if same else [], [])
    if same:
        say(again, (21, 23, "different"))
        assert pairs(first) == ([], [[0, 1]])  # of an older version, too
        assert count_verdicts(again).entries["path_a"].to_pylist() == ["b.jpg"]


def test_unknown_bytes_are_not_the_same(gallery):
    say(gallery, (0, 1, "same"))
    again = unit_of(gallery.target, range(20, 21), paths=[path_of(1)])
    assert pairs(gallery.commit([again], run_id="again")) == ([], [])


def test_verdicts_of_an_earlier_gallery_in_the_folder_do_not_count(gallery, tmp_path):
    say(gallery, (0, 1, "same"), (2, 3, "same"))
    other = new_gallery(tmp_path / "other")
    unit = unit_of(other.target, range(4), paths=["0.jpg", "1.jpg", path_of(2), path_of(3)])
    other = other.commit([unit], run_id="other")
    for name in ("_verdicts", "_checksums/_verdicts"):
        (tmp_path / "other" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "g" / name).rename(tmp_path / "other" / name)
    assert pairs(other) == ([[2, 3]], [])


def test_no_entry_of_several_writers_is_lost(gallery):
    def tell(who):
        for b in range(1, 11):
            say(gallery, (0, b, "same"), who=who)

    with ThreadPoolExecutor() as pool:
        list(pool.map(tell, ("ann", "bob", "cy")))
    told = read_entries(gallery._root)
    for who in ("ann", "bob", "cy"):
        kept = [each["b"] for each in told.to_pylist() if each["who"] == who]
        assert kept == list(range(1, 11))
    assert verify(gallery).findings == ()


def test_cut_off_anywhere_an_entry_is_there_or_not(gallery):
    say(gallery, (0, 1, "same"))
    with interrupted(-1, crash) as seen:
        say(gallery, (2, 3, "same"))
    names = list(seen)
    assert {"fsync", "replace"} <= {*names}
    for operation in points(names):
        say(gallery, (2, 3, "withdrawn"))
        with interrupted(operation, crash, dead=True), pytest.raises(Crash):
            say(gallery, (2, 3, "different"))
        assert pairs(gallery) in (([[0, 1]], []), ([[0, 1]], [[2, 3]])), names[operation]
        say(gallery, (2, 3, "same"))
        assert pairs(gallery) == ([[0, 1], [2, 3]], [])
        assert verify(gallery).findings == ()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "the file is gone; .* give the verdicts"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "its bytes are not those"),
    ],
)
def test_damage_is_told_by_name(gallery, damage, message):
    path = say(gallery, (0, 1, "same"))
    damage(path)
    with pytest.raises(GalleryDamagedError, match=rf"{path.name}: {message}"):
        read_verdicts(gallery)
    assert [each.file for each in verify(gallery).findings] == [f"_verdicts/{path.name}"]


def test_another_table_is_not_verdicts(gallery):
    path = say(gallery, (0, 1, "same"))
    for data in (b"PAR1", path.read_bytes().replace(b"comment", b"COMMENT")):
        checksums.write_recorded(path, lambda temporary, data=data: temporary.write_bytes(data))
        with pytest.raises(GalleryDamagedError, match="these are not verdicts"):
            read_verdicts(gallery)


def test_a_folder_that_cannot_be_written_to(gallery, monkeypatch):
    monkeypatch.setattr("pipeline.gallery.verdicts.entries.can_write", lambda place: False)
    with pytest.raises(InputError, match="cannot be written to: verdicts are stored there"):
        say(gallery, (0, 1, "same"))


def test_a_row_that_leaves_at_the_same_time(gallery):
    told = entries(gallery, (0, 1, "same"))
    after = erased(gallery, 1)
    with pytest.raises(InputError, match="row 1 left the gallery at the same time"):
        append_entries(gallery, told)
    assert len(read_entries(gallery._root)) == 0
    assert append_entries(gallery, entries(gallery, (0, 2, "same"))).exists()
    assert verify(after).findings == ()


# Purging


def held(gallery):
    return b"".join(path.read_bytes() for path in gallery._root.rglob("*") if path.is_file())


def test_a_purge_removes_verdicts_on_erased_rows(gallery):
    alone = say(gallery, (0, 3, "same"), comment="a red bag")
    mixed = say(gallery, (1, 3, "different"), (5, 4, "same"), who="bob")
    after = erased(gallery, 3)
    assert path_of(3).encode() in held(gallery)
    assert purged(after).verdicts_removed == 2
    assert path_of(3).encode() not in held(gallery) and b"a red bag" not in held(gallery)
    assert not alone.exists() and mixed.exists()
    assert pairs(after) == ([[4, 5]], [])
    assert verify(after).findings == ()
    assert purged(after).verdicts_removed == 0


def test_a_purge_keeps_verdicts_on_rows_that_were_extracted_again(empty):
    first = two_images(empty)
    say(first, (0, 1, "same"))
    new = hashed_unit(first, range(2, 3), ["a.jpg"], [b"w"])
    after = first.commit([new], run_id="b")
    assert purged(after).verdicts_removed == 0
    assert pairs(after) == ([[1, 2]], [])
    assert read_entries(after._root).select(["a", "b"]).to_pylist() == [{"a": 1, "b": 2}]


def test_a_purge_removes_comments_that_name_erased_rows(gallery, caplog):
    say(gallery, (0, 1, "same"), comment=f"as in {path_of(3)}, I think")
    say(gallery, (0, 2, "same"), comment="sure")
    after = erased(gallery, 3)
    purged(after)
    assert "1 comments of verdicts named rows that are gone" in caplog.text
    assert path_of(3).encode() not in held(gallery)
    assert count_verdicts(after).entries["comment"].to_pylist() == [None, "sure"]


@pytest.mark.parametrize(
    ("told", "trace"),
    [((0, 3, "same"), "holds a row id;"), ((3, 0, "same"), "holds a path, in the column path_a")],
)
def test_the_search_for_remnants_reads_verdicts(gallery, monkeypatch, told, trace):
    path = say(gallery, told)
    monkeypatch.setattr("pipeline.gallery.upkeep.purge.forget_gone_rows", lambda gallery: 0)
    after = erased(gallery, 3)
    with pytest.raises(RunError, match=f"_verdicts/{path.name}.*{trace}"):
        purged(after)


def test_a_longer_path_is_not_a_remnant(empty):
    paths = ["people/12345.jpg", "more people/12345.jpg", "c.jpg"]
    gallery = empty.commit([unit_of(empty.target, range(3), paths=paths)], run_id="a")
    say(gallery, (1, 2, "same"))
    after = erased(gallery, 0)
    purged(after)
    assert pairs(after) == ([[1, 2]], [])
