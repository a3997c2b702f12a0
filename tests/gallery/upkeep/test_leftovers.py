"""Cleaning: what no version needs goes, and nothing else."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import InputError, RunError
from pipeline.gallery.files import storage
from pipeline.gallery.files.storage import record_of, temporary_name
from pipeline.gallery.log.entries import oldest_version
from pipeline.gallery.log.lock import hold
from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.scratch import scratch_folder
from pipeline.gallery.sidecars.calibrations import write_calibration
from pipeline.gallery.sidecars.plan import write_plan
from pipeline.gallery.sidecars.seen import add_seen, read_seen
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep import leftovers
from pipeline.gallery.upkeep.compact import compact
from pipeline.gallery.upkeep.leftovers import clean, find_leftovers
from pipeline.gallery.upkeep.purge import purge
from pipeline.gallery.upkeep.verify import verify
from tests.gallery.making import contents, new_gallery, rejects_table, unit


@pytest.fixture
def gallery(tmp_path):
    """Versions 0 to 4; each of the last three has another file in the place of the first one."""
    gallery = new_gallery(tmp_path / "g")
    units = [unit(gallery.target, range(10)), unit(gallery.target, range(10, 20), rejected=[12])]
    gallery = gallery.commit(units, run_id="first")
    for row_id in (3, 4):
        gallery = gallery.commit([], run_id=f"x{row_id}", removes=[row_id])
    return gallery.commit([], run_id="y", removes=[5], rejects=rejects_table(["odd"]))


def cleaned(gallery, keep=None):
    with hold(gallery.location, "clean") as lock:
        return clean(gallery, lock, keep)


def files_in(gallery):
    return {p for p in gallery._root.rglob("*") if p.is_file() and p.name != "_lock"}


def test_nothing_is_left_over(gallery):
    before = files_in(gallery)
    found = cleaned(gallery)
    assert (found.versions, found.unfinished, found.old, found.bytes) == (0, (), (), 0)
    assert files_in(gallery) == before


def abandon(gallery):
    """An extraction, an erasure and a compaction, each cut off at some moment."""
    unit(gallery.target, range(20, 25), rejected=[22])
    write_plan(gallery.location, pa.table({"path": ["x"]}))
    (gallery._root / "_calibrations").mkdir(exist_ok=True)
    temporary_name(gallery._root / "_units", "half").write_bytes(b"x")
    temporary_name(gallery._root, "_plan.parquet").write_bytes(b"x")
    temporary_name(gallery._root / "_calibrations", "000000000004.json").write_bytes(b"x")
    temporary_name(gallery._root / "_rejects", "rejects").write_bytes(b"x")
    (gallery._root / "_delta_log" / f"{5:020d}.json#1").write_bytes(b"x")
    (gallery._root / "000000000000-rewritten.parquet").write_bytes(b"x")


def test_abandoned_work_goes(gallery):
    before, seen = files_in(gallery), contents(gallery)
    calibration = write_calibration(gallery, {"threshold": 0.5})
    touched = pa.table({"row_id": [1], "mtime": [datetime.now(UTC)]})
    add_seen(gallery.location, touched, gallery.row_ids())
    abandon(gallery)
    told = find_leftovers(gallery)
    found = cleaned(gallery)
    assert found == told
    assert len(found.unfinished) == 9
    assert found.bytes > 4
    kept = {gallery._root / "_seen.parquet", calibration}
    assert files_in(gallery) == before | kept | {record_of(path) for path in kept}
    assert read_seen(gallery.location).num_rows == 1
    assert contents(Gallery.open(gallery.location)) == seen
    assert all(verify(Gallery.open(gallery.location, v)).findings == () for v in range(5))


def test_scratch_of_killed_runs_goes_and_that_of_live_ones_stays(gallery, tmp_path):
    with pytest.raises(RunError), scratch_folder(tmp_path, "link", [gallery], 0) as left:
        (left / "features").write_bytes(bytes(1000))
        raise RunError("no memory")
    inside = sum(path.stat().st_size for path in left.iterdir())
    told = find_leftovers(gallery)
    assert (told.scratch, told.bytes) == ((str(left),), inside)
    assert inside > 1000
    with pytest.raises(RunError), scratch_folder(tmp_path, "link", [gallery], 0):
        assert cleaned(gallery).scratch == ()
        assert (left / "features").exists()
        raise RunError("no memory")
    assert cleaned(gallery) == told
    assert not left.exists()


def test_the_next_writer_removes_what_was_half_written_and_nothing_that_was_finished(gallery):
    before = files_in(gallery)
    abandon(gallery)
    records = gallery._root / "_checksums"
    finished = {
        path
        for path in files_in(gallery)
        if path.suffix == ".parquet" or (records in path.parents and path.suffix == ".json")
    }
    with lock_gallery(gallery.location, "erase"):
        assert files_in(gallery) == before | finished
    new = {path.name for path in finished - before if path.suffix == ".parquet"}
    assert len(new) == 4  # a unit and its rejects, the plan, a rewritten file


def test_log_entries_that_a_killed_clean_left_go_with_the_next_writer(gallery):
    log = gallery._root / "_delta_log"
    entries = {path: path.read_bytes() for path in sorted(log.glob("*.json"))}
    cleaned(gallery, keep=2)
    whole = files_in(gallery)
    for path in list(entries)[1:3]:
        path.write_bytes(entries[path])
    with lock_gallery(gallery.location, "erase"):
        assert files_in(gallery) == whole
    for path in list(entries)[1:3]:
        path.write_bytes(entries[path])
    assert cleaned(gallery, keep=2).versions == 0
    assert files_in(gallery) == whole
    assert Gallery.open(gallery.location, 3).count == gallery.count + 1


def test_what_a_writer_finishes_meanwhile_does_not_disturb_a_look(gallery, monkeypatch):
    """Telling what could go takes no lock."""
    half, real = temporary_name(gallery._root / "_units", "half"), leftovers.unfinished_files
    half.write_bytes(b"x")

    def listed_before_it_goes(root):
        found = real(root)
        half.unlink()
        return found

    monkeypatch.setattr(leftovers, "unfinished_files", listed_before_it_goes)
    assert find_leftovers(gallery).bytes == 0


NOT_OURS = (
    "notes.parquet", ".notes.tmp", "2026-notes.parquet", "_units/notes.parquet", "_units/x.tmp",
    "_rejects/notes.parquet", "_rejects/.notes", "_rejects/sub/a.txt",
    "_cameras/000.txt", "_calibrations/.notes.tmp", "_graph/notes.txt",
    "_graph/round/notes.txt", "_checksums/.notes.tmp", "_checksums/_cameras/_lock",
    "_checksums/_cameras/_delta_log.json", "_delta_log/notes.json",
    "_delta_log/5.json", "_delta_log/notes#1", "_delta_log/notes.tmp", "notes/a.parquet",
)  # fmt: skip


@pytest.mark.parametrize("writer", ["clean", "compact", "purge"])
def test_what_no_writer_of_ours_named_stays_and_is_told(gallery, writer):
    for name in NOT_OURS:
        (gallery._root / name).parent.mkdir(exist_ok=True, parents=True)
        (gallery._root / name).write_text("mine")
    told = {each.file for each in verify(gallery).findings}
    of_the_log = {name for name in NOT_OURS if name.startswith("_delta_log")}
    # Beside a log of which something is wrong, nobody knows which Parquet files there should be.
    assert told >= {name for name in NOT_OURS if "/" in name or not name.endswith(".parquet")}
    with lock_gallery(gallery.location, writer) as lock:
        if writer == "compact":
            compact(gallery, lock=lock)
        elif writer == "clean":
            clean(gallery, lock, keep=1)
        else:
            with pytest.raises(RunError, match="delete those files if they are not the gallery's"):
                purge(gallery, lock)
    (gallery._root / "_checksums" / "_lock").write_text("mine")
    assert [name for name in NOT_OURS if not (gallery._root / name).exists()] == []
    for name in of_the_log:
        (gallery._root / name).unlink()
    told = {each.file for each in verify(Gallery.open(gallery.location)).findings}
    assert told >= set(NOT_OURS) - of_the_log | {"_checksums/_lock"}


@pytest.mark.parametrize("keep", [1, 2, 3, 4, 5, 99])
def test_the_newest_versions_stay(gallery, keep):
    before = [contents(Gallery.open(gallery.location, v)) for v in range(5)]
    rejects = [Gallery.open(gallery.location, v).rejects().num_rows for v in range(5)]
    found = cleaned(gallery, keep)
    oldest = max(0, 5 - keep)
    assert found.versions == oldest == oldest_version(gallery._root)
    for version in range(5):
        if version < oldest:
            with pytest.raises(InputError, match=f"version {version} was removed; the oldest"):
                Gallery.open(gallery.location, version)
        else:
            kept = Gallery.open(gallery.location, version)
            assert contents(kept) == before[version]
            assert kept.rejects().num_rows == rejects[version]
            assert verify(kept, all_versions=True).findings == ()
    assert len(found.old) == max(0, oldest - 1) + (oldest == 4)
    assert cleaned(gallery, keep).versions == 0
    later = gallery.commit([unit(gallery.target, range(20, 30))], run_id="more")
    assert (later.version, later.count) == (5, 26)


def test_versions_are_given_up_after_a_compaction(gallery):
    before = contents(gallery)
    after = compact(gallery)
    found = cleaned(after, 1)
    assert (found.versions, len(found.old)) == (5, 6)
    assert contents(after) == before
    assert verify(after, all_versions=True).findings == ()


def test_at_least_one_version_is_kept(gallery):
    with pytest.raises(InputError, match="`keep` must be at least 1, not 0"):
        find_leftovers(gallery, 0)


def test_a_version_that_is_not_the_latest_deletes_nothing(gallery):
    """To it, the files of later versions would be of no use."""
    latest = gallery.commit([unit(gallery.target, range(20, 30))], run_id="later")
    before = files_in(gallery)
    with pytest.raises(RunError, match="version 5 came after version 4"):
        cleaned(gallery, keep=1)
    assert files_in(gallery) == before
    assert verify(latest).findings == ()


def test_the_lock_is_needed(gallery):
    with hold(gallery.location, "x") as lock:
        pass
    with pytest.raises(RunError, match="the lock was lost"):
        clean(gallery, lock)


def test_what_a_writer_has_just_made_stays_except_among_units(tmp_path):
    """It was listed in the moment before its writer locked it."""
    for name in ("_verdicts", "_units"):
        (tmp_path / name).mkdir()
    dead = storage.temporary_name(tmp_path / "_verdicts", "killed")
    dead.touch()
    with (
        storage.hidden_file(tmp_path / "_verdicts", "entry") as entry,
        storage.hidden_file(tmp_path / "_units", "rows") as rows,
    ):
        leftovers.delete_unfinished([dead, entry, rows])
        assert [path.exists() for path in (dead, entry, rows)] == [False, True, False]


@pytest.mark.parametrize("tidy", [clean, purge])
def test_an_entry_that_was_listed_as_it_was_made_stays(gallery, tidy, monkeypatch):
    folder = Path(gallery.location) / "_verdicts"
    folder.mkdir()
    with (
        storage.hidden_file(folder, "entry") as entry,
        hold(gallery.location, tidy.__name__) as lock,
    ):
        listed = {folder: [entry]}
        monkeypatch.setattr(storage, "cut_off", lambda place, name=None: listed.get(place, []))
        tidy(gallery, lock)
        assert entry.exists()
