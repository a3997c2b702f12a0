"""Versions that are removed while they are read, and files that are missing for good."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import RunError
from pipeline.gallery.derived import is_made_from
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.formats.export import export_gallery
from pipeline.gallery.log import entries
from pipeline.gallery.log.lock import hold
from pipeline.gallery.sidecars.camera_statistics import read_camera_sums
from pipeline.gallery.summary import summarize_gallery
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep import purge as purging
from pipeline.gallery.upkeep import verify as verifying
from pipeline.gallery.upkeep.compact import compact
from pipeline.gallery.upkeep.leftovers import clean
from pipeline.gallery.upkeep.purge import purge
from pipeline.gallery.upkeep.verify import verify
from tests.gallery.making import contents, new_gallery, unit

ROOT = Path(__file__).parents[2]
TOLD = "version 1 was removed while it was read; the oldest left is 3: read the latest, 3"


@pytest.fixture
def old(tmp_path):
    """Version 1 of a gallery, none of whose files the latest, version 3, needs."""
    gallery = new_gallery(tmp_path / "g")
    units = [unit(gallery.target, range(20), rejected=[12]), unit(gallery.target, range(20, 30))]
    old = gallery.commit(units, run_id="first")
    old.commit([], run_id="second", removes=[3, 25], forget=["c0/000012.jpg"])
    compact(Gallery.open(gallery.location))
    return old


def purged(location):
    with hold(location, "purge") as lock:
        purge(Gallery.open(location), lock)


def cleaned(location):
    with hold(location, "clean") as lock:
        clean(Gallery.open(location), lock, keep=1)


READERS = {
    "rows": lambda gallery: gallery.rows(),
    "rejects": lambda gallery: gallery.rejects(),
    "select": lambda gallery: gallery.select("camera = 'c1'"),
    "read": lambda gallery: gallery.features().read(0, 5),
    "take": lambda gallery: gallery.features().take(np.array([4, 1])),
    "stored": lambda gallery: gallery.features().stored(np.array([4, 1])),
    "summary": summarize_gallery,
    "verify": verify,
    "verify all": lambda gallery: verify(gallery, all_versions=True),
    "export": lambda gallery: export_gallery(gallery, f"{gallery.location}-out"),
}


@pytest.mark.parametrize("remove", [purged, cleaned])
def test_a_reader_is_told_that_its_version_was_removed(old, remove):
    remove(old.location)
    for read in READERS.values():
        with pytest.raises(RunError, match=TOLD) as failed:
            read(old)
        assert not isinstance(failed.value, GalleryDamagedError)


def test_a_block_of_features_after_others_were_read(old):
    features = old.features()
    assert len(features.read(0, 5)) == 5
    purged(old.location)
    with pytest.raises(RunError, match=TOLD):
        features.read(20, 25)


def test_a_purge_that_has_begun(old, monkeypatch):
    """Its files are set aside before its versions leave the log."""

    def cut_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(purging, "forget_before", cut_off)
    with pytest.raises(KeyboardInterrupt):
        purged(old.location)
    again = Gallery.open(old.location, 1)
    for read in READERS.values():
        with pytest.raises(RunError, match=r"version \d is being removed by a purge"):
            read(again)
    assert len(contents(Gallery.open(old.location))) == 27


@pytest.mark.parametrize("version", [1, 3])
def test_a_file_that_is_missing_for_good(old, version):
    gallery = Gallery.open(old.location, version)
    for file in gallery.snapshot.files:
        (gallery._root / file.path).unlink()
    for reader in READERS.keys() - {"verify", "verify all", "rejects"}:
        with pytest.raises((RunError, ValueError)) as failed:
            READERS[reader](gallery)
        assert "removed" not in str(failed.value)
        assert any(file.path in str(failed.value) for file in gallery.snapshot.files), reader


def test_verify_tells_what_is_missing_for_good(old):
    for version in (1, 3):
        gallery = Gallery.open(old.location, version)
        (gallery._root / gallery.snapshot.files[0].path).unlink()
        (found,) = verify(gallery).findings
        assert (found.file, found.problem) == (gallery.snapshot.files[0].path, "the file is gone")


@pytest.mark.parametrize(
    "step", ["logged_files", "_bytes_of", "_rows_of", "_of_rejects", "_of_keys"]
)
def test_a_purge_in_the_midst_of_verifying(old, step, monkeypatch):
    """Each step finds the files that the one before it saw gone."""
    before, todo = getattr(verifying, step), [purged]

    def after_the_purge(*arguments):
        if todo:
            todo.pop()(old.location)
        return before(*arguments)

    monkeypatch.setattr(verifying, step, after_the_purge)
    with pytest.raises(RunError, match="version 1 was removed while it was read"):
        verify(old)


def test_older_versions_that_go_while_all_are_verified(old, monkeypatch):
    before, todo = verifying._of_rejects, [purged]

    def after_the_purge(*arguments):
        if todo:
            todo.pop()(old.location)
        return before(*arguments)

    monkeypatch.setattr(verifying, "_of_rejects", after_the_purge)
    latest = Gallery.open(old.location)
    with pytest.raises(RunError, match="version 0 was removed while it was read"):
        verify(latest, all_versions=True)
    assert verify(latest, all_versions=True).findings == ()


def test_entries_that_a_purge_has_yet_to_delete_are_no_damage(old, monkeypatch):
    """The log tells of them that they go before they do."""
    latest, seen = Gallery.open(old.location), []
    delete = entries.storage.delete_files

    def slowly(paths):
        paths = list(paths)
        if any(path.suffix == ".json" for path in paths) and not seen:
            with ThreadPoolExecutor(1) as pool:
                verifying_now = pool.submit(verify, latest)
                time.sleep(0.2)
                delete(paths)
                seen.append("at work")
        else:
            delete(paths)
        if seen == ["at work"]:
            seen.append(verifying_now.result(timeout=30).findings)

    monkeypatch.setattr(entries.storage, "delete_files", slowly)
    purged(old.location)
    assert seen == ["at work", ()]


def test_what_a_version_was_expanded_from(old, tmp_path):
    latest = Gallery.open(old.location)
    assert not is_made_from(latest, latest)
    purged(old.location)
    assert read_camera_sums(old) is None


READER = """
import sys
from pipeline.errors import InputError, RunError
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.verify import verify
location = sys.argv[1]
print("ready", flush=True)
for _ in range(4000):
    gallery = Gallery.open(location)
    try:
        gallery.rows(), gallery.features().read(0, gallery.count), gallery.history()
        found = verify(gallery).findings
        assert found == (), found
    except RunError as error:
        print(error, flush=True)
    if gallery.version >= int(sys.argv[2]):
        break
"""


@pytest.mark.slow
def test_readers_beside_purges(old):
    """Whoever opens the latest version and reads on is never told of damage."""
    rounds = 3
    last = 3 + 2 * rounds
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, old.location, str(last)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert reader.stdout.readline() == "ready\n"
    for _ in range(rounds):
        gallery = Gallery.open(old.location)
        first = gallery.next_row_id
        record = unit(gallery.target, range(first, first + 4))
        gallery = gallery.commit([record], run_id=f"add {first}")
        gallery.commit([], run_id=f"drop {first}", removes=[first])
        purged(old.location)
    out, err = reader.communicate(timeout=60)
    assert reader.returncode == 0, err
    assert all("removed" in line for line in out.splitlines()), out


def test_an_entry_that_goes_between_listing_and_reading(old, monkeypatch):
    """The listing is made again; an entry that does not come back is told."""
    gallery = Gallery.open(old.location)
    entry = gallery._root / "_delta_log" / f"{1:020d}.json"
    kept, reading = entry.read_bytes(), Path.read_bytes
    entry.unlink()
    entry.symlink_to("nowhere")
    assert f"_delta_log/{entry.name}" in {each.file for each in verify(gallery).findings}

    def back(path):
        try:
            return reading(path)
        except FileNotFoundError:
            entry.unlink()
            entry.write_bytes(kept)
            raise

    monkeypatch.setattr(Path, "read_bytes", back)
    assert verify(gallery).findings == ()


def test_verify_looks_again_for_a_part_of_the_log_that_goes(old, monkeypatch):
    """A purge removes entries of the log between their listing and their reading."""
    plain, calls = verifying.logged_files, []

    def vanishing(root):
        calls.append(root)
        if len(calls) == 1:
            raise GalleryDamagedError(f"{root}: this part of the log cannot be read")
        return plain(root)

    monkeypatch.setattr(verifying, "logged_files", vanishing)
    assert verify(Gallery.open(old.location)).findings == ()
    assert len(calls) == 2
