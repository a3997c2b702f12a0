"""Erasing rows, purging what only older versions hold, and the proof."""

import json
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError, RunError
from pipeline.gallery.files.storage import temporary_name
from pipeline.gallery.files.unit_files import write_unit
from pipeline.gallery.log.lock import hold
from pipeline.gallery.sidecars.plan import write_plan
from pipeline.gallery.sidecars.seen import add_seen
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep import purge as purging
from pipeline.gallery.upkeep.byte_search import needles, occurrences
from pipeline.gallery.upkeep.erase import erase
from pipeline.gallery.upkeep.purge import is_under_way, purge
from pipeline.gallery.upkeep.restore import restore
from pipeline.gallery.upkeep.selection import Selected, Selection, selected_rows
from tests.gallery.making import contents, new_gallery, path_of, rejects_table, unit, unit_vectors

# Selecting


@pytest.fixture
def gallery(tmp_path):
    """Ids 0 to 39; 12 is a reject, 20 to 24 are newer images of 0 to 4."""
    gallery = new_gallery(tmp_path / "g")
    units = [unit(gallery.target, range(10)), unit(gallery.target, range(10, 20), rejected=[12])]
    gallery = gallery.commit(units, run_id="first")
    newer = unit(gallery.target, range(20, 25), paths=[path_of(i) for i in range(5)])
    gallery = gallery.commit([newer], run_id="second")
    return gallery.commit([unit(gallery.target, range(25, 40))], run_id="third")


def chosen(gallery, **conditions):
    return selected_rows(gallery, Selection(**conditions)).row_ids.tolist()


def test_conditions(gallery):
    live = [*range(5, 12), *range(13, 40)]
    assert chosen(gallery, where="camera = 'c1' and row_id < 14") == [7, 10, 13]
    assert chosen(gallery, identities=(3, 2)) == [i for i in live if i % 5 in (3, 4)]
    assert chosen(gallery, row_ids=(7, 0, 39)) == [7, 39]
    assert chosen(gallery, paths=(path_of(6), path_of(0))) == [6, 20]
    assert chosen(gallery, paths=("c1/*7.jpg", "c2/00000[58].*")) == [5, 7, 8, 37]
    assert chosen(gallery, identities=(3,), where="row_id > 30", paths=("c0/*",)) == [39]


def test_rejects_are_selected_by_path_alone(gallery):
    assert selected_rows(gallery, Selection(paths=("c0/*",))).reject_paths == (path_of(12),)
    assert selected_rows(gallery, Selection(paths=(path_of(12),))).reject_paths == (path_of(12),)
    assert selected_rows(gallery, Selection(paths=("c0/*",), identities=(1,))).reject_paths == ()


def test_a_path_with_letters_of_patterns(tmp_path):
    gallery = new_gallery(tmp_path / "g")
    paths = ["a[1].jpg", "a1.jpg", "b"]
    gallery = gallery.commit([unit(gallery.target, range(3), paths=paths)], run_id="x")
    assert chosen(gallery, paths=("a[1].jpg",)) == [0, 1]


def with_times(tmp_path, days):
    """A gallery whose row i was captured so many days ago, or nobody knows when."""
    gallery = new_gallery(tmp_path / "g")
    record = unit(gallery.target, range(len(days)))
    table = pq.read_table(gallery._root / record.path)
    (gallery._root / record.path).unlink()
    now = datetime.now(UTC)
    times = [None if each is None else now - timedelta(days=each) for each in days]
    at = table.schema.get_field_index("captured_at")
    table = table.set_column(at, table.schema.field(at), pa.array(times, pa.timestamp("us", "UTC")))
    table = table.replace_schema_metadata(None)
    record = write_unit(gallery.target, "u", range(len(days)), table, rejects_table([]))
    return gallery.commit([record], run_id="x")


def test_age(tmp_path):
    gallery = with_times(tmp_path, [100, 91, 89, None, 0, None])
    before = datetime.now(UTC) - timedelta(days=90)
    found = selected_rows(gallery, Selection(captured_before=before))
    assert (found.row_ids.tolist(), found.without_time) == ([0, 1], 2)
    elsewhere = before.astimezone(timezone(timedelta(hours=9)))
    assert chosen(gallery, captured_before=elsewhere) == [0, 1]
    narrow = selected_rows(gallery, Selection(captured_before=before, row_ids=(1, 3)))
    assert (narrow.row_ids.tolist(), narrow.without_time) == ([1], 1)
    assert chosen(gallery, where="captured_at < '2000-01-01'") == []
    with pytest.raises(InputError, match="has no zone"):
        Selection(captured_before=datetime(2026, 1, 1))


@pytest.mark.parametrize("empty", [{"where": ""}, {"where": " \n"}, {"paths": ("c0/*", "")}])
def test_an_empty_condition_is_not_dropped(empty):
    with pytest.raises(InputError, match="is empty"):
        Selection(identities=(1,), **empty)


def test_nothing_asked_for(gallery):
    with pytest.raises(InputError, match="nothing is selected"):
        selected_rows(gallery, Selection())


# Erasing


def test_erased_rows_and_rejects_are_gone_from_the_next_version(gallery):
    before = contents(gallery)
    after = erase(gallery, selected_rows(gallery, Selection(paths=("c0/*",))))
    assert contents(after) == {p: v for p, v in before.items() if not p.startswith("c0/")}
    assert after.rejects().num_rows == 0
    assert contents(gallery) == before
    assert after.history()[-1].run_id.startswith("erase-3-")


def test_erasing_nothing_makes_no_version(gallery):
    assert erase(gallery, selected_rows(gallery, Selection(row_ids=(12,)))) is gallery


def test_the_same_rows_can_be_erased_after_they_were_restored(gallery):
    selected = selected_rows(gallery, Selection(identities=(1,)))
    after = erase(gallery, selected)
    back = restore(after, gallery.version)
    assert contents(back) == contents(gallery)
    again = erase(back, selected)
    assert (again.version, contents(again)) == (6, contents(after))


# Purging


def purged(gallery):
    with hold(gallery.location, "purge") as lock:
        return purge(gallery, lock)


def everything_in(folder):
    """All bytes of a folder, and all texts and row ids of its Parquet files and log, decoded."""
    raw, texts, ids = b"", "", set()
    for path in folder.rglob("*"):
        if path.is_file():
            raw += path.read_bytes()
            texts += path.name
            if path.suffix == ".parquet":
                table = pq.read_table(path)
                texts += str(table.to_pylist())
                ids |= set(table["row_id"].to_pylist() if "row_id" in table.column_names else [])
    return raw, texts + raw.decode(errors="ignore"), ids


def test_nothing_of_erased_rows_is_left(gallery):
    gone = [6, 21, 30]
    selected = Selected(np.array(gone), (path_of(12),), 0)
    after = erase(gallery, selected)
    raw, texts, ids = everything_in(gallery._root)
    for row_id in gone:
        assert unit_vectors([row_id]).tobytes() in raw
        assert row_id in ids
    before = contents(after)
    found = purged(after)
    raw, texts, ids = everything_in(gallery._root)
    for row_id in [*gone, 0, 1, 2, 3, 4]:  # also what was replaced before
        assert unit_vectors([row_id]).tobytes() not in raw
        assert row_id not in ids
    for path in [path_of(6), path_of(30), path_of(12), path_of(1)]:
        assert path not in texts
    assert contents(Gallery.open(gallery.location)) == before
    assert (found.rows_gone, found.rejects_gone, found.versions_removed) == (3 + 5, 1, 4)
    assert found.unreadable == ()
    files = [path for path in gallery._root.rglob("*") if path.is_file()]
    assert found.searched_files == len(files)
    assert not is_under_way(gallery.location)


def test_older_versions_are_told_to_be_gone(gallery):
    after = erase(gallery, selected_rows(gallery, Selection(row_ids=(7,))))
    purged(after)
    with pytest.raises(InputError, match="version 2 was removed; the oldest left is 4"):
        Gallery.open(gallery.location, 2)
    assert [each.version for each in after.history()] == [4]
    with pytest.raises(InputError, match="no version is as old as"):
        Gallery.open(gallery.location, at=datetime(2020, 1, 1, tzinfo=UTC))
    more = after.commit([unit(after.target, range(40, 45))], run_id="more")
    assert (more.version, more.next_row_id, more.count) == (5, 45, 38)


def test_a_second_purge_has_nothing_to_do(gallery):
    purged(gallery)
    found = purged(gallery)
    assert (found.versions_removed, found.files_removed, found.rows_gone) == (0, 0, 0)


def test_abandoned_work_is_purged_too(gallery):
    unit(gallery.target, range(40, 45), rejected=[42], paths=[path_of(i) for i in range(5, 10)])
    write_plan(gallery.location, pa.table({"path": [path_of(5)]}))
    temporary_name(gallery._root / "_units", "x").write_bytes(unit_vectors([5]).tobytes())
    after = erase(gallery, selected_rows(gallery, Selection(row_ids=(5,))))
    purged(after)
    raw, texts, _ = everything_in(gallery._root)
    assert unit_vectors([5]).tobytes() not in raw
    assert path_of(5) not in texts
    assert after.find_units().units == ()


def test_the_same_image_under_two_paths(tmp_path):
    """The other row's feature stays, and is not a trace of the erased one."""
    gallery = new_gallery(tmp_path / "g")
    record = unit(gallery.target, range(6))
    table = pq.read_table(gallery._root / record.path).replace_schema_metadata(None)
    (gallery._root / record.path).unlink()
    at = table.schema.get_field_index("feature")
    same = pa.chunked_array([table["feature"].take(pa.array([0, 0, 2, 3, 4, 4])).combine_chunks()])
    table = table.set_column(at, table.schema.field(at), same)
    record = write_unit(gallery.target, "u", range(6), table, rejects_table([]))
    gallery = gallery.commit([record], run_id="x")
    after = erase(gallery, Selected(np.array([1, 4, 5]), (), 0))
    found = purged(after)
    assert found.rows_gone == 3
    raw, _, _ = everything_in(gallery._root)
    assert unit_vectors([0]).tobytes() in raw
    assert unit_vectors([4]).tobytes() not in raw


def test_a_path_that_is_part_of_another(tmp_path):
    gallery = new_gallery(tmp_path / "g")
    paths = ["camera1/0001.jpg", "camera1/0001.jpg.jpg", "x"]
    gallery = gallery.commit([unit(gallery.target, range(3), paths=paths)], run_id="x")
    after = erase(gallery, selected_rows(gallery, Selection(paths=(paths[0], "x"))))
    assert purged(after).rows_gone == 2
    assert set(contents(after)) == {paths[1]}


def plant(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("_calibrations/x.json", unit_vectors([7]).tobytes(), "the bytes of 1 features"),
        ("_calibrations/x.json", b"abc" + unit_vectors([7]).tobytes() + b"x", "of 1 features"),
        ("notes.txt", path_of(7).encode(), "the bytes of 1 paths"),
        ("_calibrations/x.parquet", b"PAR1 cut short", "what cannot be searched"),
        ("_delta_log/.x.json.crc", b"crc\0\xff", "what cannot be searched"),
    ],
)
def test_a_trace_is_told_by_name(gallery, name, content, told):
    plant(gallery._root / name, content)
    after = erase(gallery, selected_rows(gallery, Selection(row_ids=(7,))))
    with pytest.raises(RunError, match=f"{name} holds .*{told}.*run the command again"):
        purged(after)
    assert is_under_way(gallery.location)
    (gallery._root / name).unlink()
    assert purged(after).rows_gone == 6
    assert not is_under_way(gallery.location)


def test_a_trace_in_compressed_columns_is_told(gallery):
    table = pa.table({"row_id": [7] * 1000, "note": [path_of(7)] * 1000})
    (gallery._root / "_calibrations").mkdir()
    pq.write_table(table, gallery._root / "_calibrations" / "x.parquet", compression="zstd")
    after = erase(gallery, selected_rows(gallery, Selection(row_ids=(7,))))
    with pytest.raises(RunError, match=r"holds a row id.*a path, in the column note"):
        purged(after)


def test_a_trace_in_the_log_is_told(gallery):
    """As it would be if a path had statistics."""
    after = erase(gallery, selected_rows(gallery, Selection(row_ids=(7,))))
    entry = gallery._root / "_delta_log" / f"{after.version:020d}.json"
    lines = entry.read_text().splitlines()
    for number, line in enumerate(lines):
        action = json.loads(line)
        if "add" in action:
            about = json.loads(action["add"]["stats"])
            about["maxValues"]["path"] = path_of(7)
            action["add"]["stats"] = json.dumps(about)
            lines[number] = json.dumps(action)
    entry.write_text("\n".join(lines))
    with pytest.raises(
        RunError, match=r"statistics of .* not those of its rows.*json holds a path"
    ):
        purged(after)


def test_statistics_of_files_that_are_gone_are_told(gallery, monkeypatch):
    after = erase(gallery, selected_rows(gallery, Selection(row_ids=(7,))))
    monkeypatch.setattr(purging, "forget_before", lambda *_: 0)
    with pytest.raises(RunError, match=r"_delta_log holds the statistics of .*, which is gone"):
        purged(after)


def test_a_damaged_old_file_is_told_and_goes(gallery):
    old = gallery.snapshot.files[0].path
    after = erase(gallery, selected_rows(gallery, Selection(row_ids=(7,))))
    (gallery._root / old).write_bytes(b"PAR1")
    assert old in purged(after).unreadable
    assert not (gallery._root / old).exists()


def test_a_version_that_is_not_the_latest_is_not_purged_for(gallery):
    latest = gallery.commit([], run_id="later", removes=[7])
    with pytest.raises(RunError, match="version 4 came after version 3"):
        purged(gallery)
    assert contents(latest) == contents(Gallery.open(gallery.location))


def test_the_lock_is_needed(gallery):
    with hold(gallery.location, "x") as lock:
        pass
    with pytest.raises(RunError, match="the lock was lost"):
        purge(gallery, lock)


def test_many_rows_are_searched_for_in_turns(gallery, monkeypatch):
    monkeypatch.setattr(purging, "_ROWS_A_SEARCH", 3)
    after = erase(gallery, selected_rows(gallery, Selection(where="row_id < 38")))
    assert purged(after).rows_gone == 37


# Looking for bytes


@pytest.mark.parametrize("length", [8, 9, 11, 15, 16, 64])
def test_bytes_at_any_offset(tmp_path, length):
    rng = np.random.default_rng(length)
    texts = [rng.bytes(length) for _ in range(5)]
    for offset in range(20):
        plant(tmp_path / "f", rng.bytes(offset) + texts[3] + rng.bytes(offset % 7) + texts[1])
        found = sorted(occurrences(tmp_path / "f", needles(texts)))
        assert found == [(1, offset + length + offset % 7), (3, offset)]


def test_bytes_over_the_edge_of_a_turn(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.gallery.upkeep.byte_search._PLACES_A_TURN", 4)
    text = bytes(range(32))
    plant(tmp_path / "f", bytes(29) + text + bytes(3) + text)
    assert [offset for _, offset in occurrences(tmp_path / "f", needles([text]))] == [29, 64]


def test_bytes_that_are_mostly_zero(tmp_path):
    text = bytes(40) + b"\1\2\3\4\5\6\7\x08" * 2 + bytes(40)
    plant(tmp_path / "f", bytes(100_000) + text + bytes(100))
    assert list(occurrences(tmp_path / "f", needles([text, bytes(90) + b"abcdef"]))) == [
        (0, 100_000)
    ]


def test_what_is_too_short_or_not_there(tmp_path):
    plant(tmp_path / "f", b"0123456789")
    assert needles([b"0123456"]) == []
    assert list(occurrences(tmp_path / "f", needles([b"0123456789a"]))) == []
    assert list(occurrences(tmp_path / "f", needles([b"23456789"]))) == [(0, 2)]
    plant(tmp_path / "f", b"0123")
    assert list(occurrences(tmp_path / "f", needles([b"23456789"]))) == []


def test_what_was_derived_goes_too(gallery):
    (gallery._root / "_graph" / "round-0-made-of-2").mkdir(parents=True)
    plant(gallery._root / "_graph" / "round-0-made-of-2" / "0.parquet", unit_vectors([7]).tobytes())
    touched = pa.table({"row_id": [7], "mtime": [datetime.now(UTC)]})
    add_seen(gallery.location, touched, gallery.row_ids())
    after = erase(gallery, selected_rows(gallery, Selection(row_ids=(7,))))
    purged(after)
    names = {path.name for path in gallery._root.iterdir()}
    assert not names & {"_graph", "_seen.parquet"}
