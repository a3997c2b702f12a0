"""Scratch folders: found again by the same run, listed by the galleries, and removed."""

import errno
import json
import logging
import os
import shutil
import socket

import pytest

from pipeline.errors import InputError, RunError
from pipeline.gallery import checksums, scratch
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log.lock import hold
from pipeline.gallery.scratch import abandoned, drop_abandoned, scratch_folder
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.erase import erase
from pipeline.gallery.upkeep.purge import purge
from pipeline.gallery.upkeep.selection import Selection, selected_rows
from tests.gallery.making import new_gallery, unit


@pytest.fixture
def gallery(tmp_path):
    gallery = new_gallery(tmp_path / "g")
    return gallery.commit([unit(gallery.target, range(10))], run_id="x")


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base").mkdir()
    return tmp_path / "base"


class Kill(BaseException):
    """Not an Exception."""


def killed(gallery, base, settings=0, others=()):
    """What a killed run leaves; the folder."""
    with (
        pytest.raises(Kill),
        scratch_folder(base, "evaluate", [gallery, *others], settings) as folder,
    ):
        (folder / "features").write_text("of erased rows")
        raise Kill
    return folder


def recorded(file, text):
    """Writes a file as a run would, with the record of its checksum."""
    checksums.write_recorded(file, lambda temporary: temporary.write_text(text))


def listed(gallery):
    return sorted((gallery._root / "_scratch").glob("*"))


def erased(gallery):
    return erase(gallery, selected_rows(gallery, Selection(row_ids=(3,))))


def purged(gallery):
    with hold(gallery.location, "purge") as lock:
        return purge(gallery, lock)


def test_nothing_stays_of_a_run_that_finished_or_was_refused(gallery, base):
    with scratch_folder(base, "evaluate", [gallery, gallery], 0) as folder:
        assert folder.parent == base
        assert folder.stat().st_mode & 0o077 == 0
        (about,) = listed(gallery)
        assert json.loads(about.read_text()) == {
            "gallery": gallery.location,
            "folder": str(folder),
            "host": socket.gethostname(),
            "verb": "evaluate",
            "version": 1,
        }
    assert listed(gallery) == list(base.iterdir()) == []
    with (
        pytest.raises(InputError, match="wrong"),
        scratch_folder(base, "link", [gallery], 0) as folder,
    ):
        (folder / "f").touch()
        raise InputError("wrong")
    assert listed(gallery) == list(base.iterdir()) == []


def test_the_same_run_goes_on_where_one_was_killed_or_failed(gallery, base):
    folder = killed(gallery, base)
    with (
        pytest.raises(RunError),
        scratch_folder(base, "evaluate", [gallery], 0) as again,
    ):
        assert again == folder
        assert (again / "features").exists()
        raise RunError("a worker died")
    with scratch_folder(base, "evaluate", [gallery], 0) as again:
        assert (again / "features").exists()
    assert listed(gallery) == list(base.iterdir()) == []


def test_a_run_of_other_settings_rows_or_verb_finds_nothing_and_removes_it(gallery, base, tmp_path):
    later = gallery.commit([unit(gallery.target, range(10, 12))], run_id="more")
    for verb, table, settings in (
        ("link", gallery, 0), ("evaluate", later, 0), ("evaluate", gallery, 1),
    ):  # fmt: skip
        folder = killed(gallery, base)
        with scratch_folder(base, verb, [table], settings) as other:
            assert other != folder
            assert not folder.exists()
            assert len(listed(gallery)) == 1
    folder = killed(gallery, base)
    (tmp_path / "elsewhere").mkdir()
    with scratch_folder(tmp_path / "elsewhere", "evaluate", [gallery], 0):
        assert list(base.iterdir()) == []


def test_a_run_of_another_version_of_the_program_takes_nothing_over(gallery, base, monkeypatch):
    folder = killed(gallery, base)
    monkeypatch.setattr(scratch.metadata, "version", lambda _: "99")
    with scratch_folder(base, "evaluate", [gallery], 0) as other:
        assert other != folder
        assert not folder.exists()


def still_writing(folder, times, monkeypatch, code=errno.ENOTEMPTY):
    """A worker of a killed run writes there while the folder is deleted, so many times."""
    real, tries = shutil.rmtree, []

    def rmtree(path):
        tries.append(path)
        if path == folder and len(tries) <= times:
            raise OSError(code, os.strerror(code), str(path))
        real(path)

    monkeypatch.setattr(scratch.shutil, "rmtree", rmtree)
    monkeypatch.setattr(scratch.time, "sleep", lambda _: None)
    return tries


def test_a_worker_that_still_writes_is_waited_for(gallery, base, monkeypatch):
    with scratch_folder(base, "evaluate", [gallery], 0) as folder:
        tries = still_writing(folder, 3, monkeypatch)
    assert len(tries) == 4
    assert list(base.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOTEMPTY, errno.EACCES])
def test_a_folder_that_cannot_be_deleted_is_told(gallery, base, monkeypatch, code):
    with (
        pytest.raises(OSError, match=os.strerror(code)),
        scratch_folder(base, "evaluate", [gallery], 0) as folder,
    ):
        tries = still_writing(folder, 99, monkeypatch, code)
    assert len(tries) == (20 if code == errno.ENOTEMPTY else 1)


def test_what_killed_runs_left_is_found_and_stays(gallery, base):
    folder = killed(gallery, base)
    assert [entry.folder for entry in abandoned(gallery.location)] == [folder]
    with scratch_folder(base, "evaluate", [gallery], 0):
        assert abandoned(gallery.location) == []
    assert abandoned(gallery.location) == []


def test_two_runs_at_once_have_two_folders(gallery, base):
    with scratch_folder(base, "evaluate", [gallery], 0) as first:
        (first / "f").touch()
        with scratch_folder(base, "evaluate", [gallery], 0) as second:
            assert second.name == f"{first.name}-1"
            assert len(listed(gallery)) == 2
            drop_abandoned(gallery.location)
        assert (first / "f").exists()
    assert listed(gallery) == list(base.iterdir()) == []


@pytest.mark.parametrize("in_the_way", ["file", "link"])
def test_a_name_that_is_not_ours_is_left_alone(gallery, base, tmp_path, in_the_way):
    with scratch_folder(base, "evaluate", [gallery], 0) as folder:
        pass
    folder.touch() if in_the_way == "file" else folder.symlink_to(tmp_path)
    with scratch_folder(base, "evaluate", [gallery], 0) as other:
        assert other.name == f"{folder.name}-1"
    assert list(base.iterdir()) == [folder]


def test_what_a_half_deleted_folder_holds_is_not_gone_on_with(gallery, base):
    folder = killed(gallery, base)
    (folder / "graph").mkdir()
    os.truncate(folder / "scratch.json", 0)
    with scratch_folder(base, "evaluate", [gallery], 0) as again:
        assert again == folder
        assert [path.name for path in again.iterdir()] == ["scratch.json"]


def test_a_folder_that_cannot_be_made(gallery, tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(
            InputError, match=r"features and graphs cannot be made .*; give another place"
        ),
        scratch_folder(tmp_path / "file", "evaluate", [gallery], 0),
    ):
        pass


def test_a_file_system_without_locks_is_told(gallery, base, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(95, "not supported")

    monkeypatch.setattr(scratch.fcntl, "flock", flock)
    with (
        pytest.raises(
            InputError, match=r"base: this file system has no locks \(not supported\); choose"
        ),
        scratch_folder(base, "evaluate", [gallery], 0),
    ):
        pass


def test_a_gallery_that_may_not_be_written_to_is_used_and_that_is_told(
    gallery, base, monkeypatch, caplog
):
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != gallery._root and real(path, mode))
    with caplog.at_level(logging.WARNING), scratch_folder(base, "evaluate", [gallery], 0):
        assert listed(gallery) == []
    assert "cannot be written to: a purge of it would not find" in caplog.text
    assert list(base.iterdir()) == []


# Purging


def test_a_purge_removes_what_killed_runs_left(gallery, base, tmp_path):
    query = new_gallery(tmp_path / "q")
    query = query.commit([unit(query.target, range(5))], run_id="x")
    folder = killed(gallery, base, others=[query])
    after = erased(gallery)
    assert folder.exists()
    found = purged(after)
    assert (found.scratch_folders, found.out_of_reach) == (1, ())
    assert listed(gallery) == list(base.iterdir()) == []
    assert len(listed(query)) == 1
    assert purged(erased(query)).scratch_folders == 0
    assert listed(query) == []


def test_what_was_made_of_the_version_that_stays_stays(gallery, base):
    folder = killed(gallery, base)
    assert purged(gallery).scratch_folders == 0
    with scratch_folder(base, "evaluate", [gallery], 0) as again:
        assert again == folder
        assert purged(gallery).scratch_folders == 0


def test_a_purge_waits_for_a_run_on_an_older_version(gallery, base):
    after = erased(gallery)
    with scratch_folder(base, "evaluate", [gallery], 0) as folder:
        with pytest.raises(RunError, match=f"{folder.name} on .* a run is at work there"):
            purged(after)
        assert type(after).open(gallery.location, 1).count == 10
    assert purged(after).versions_removed == 2


@pytest.mark.parametrize("when", ["before", "while it is listed"])
def test_a_run_on_a_version_that_a_purge_removes_meanwhile_ends(gallery, base, monkeypatch, when):
    if when == "before":
        purged(erased(gallery))
    else:
        real = scratch._register

        def register(*arguments):
            purged(erased(gallery))
            return real(*arguments)

        monkeypatch.setattr(scratch, "_register", register)
    with (
        pytest.raises((InputError, RunError), match="version 1 was removed"),
        scratch_folder(base, "evaluate", [gallery], 0),
    ):
        pass
    assert listed(gallery) == list(base.iterdir()) == []


def test_a_purge_sees_a_run_that_was_listed_while_it_began(gallery, base, monkeypatch):
    after = erased(gallery)
    monkeypatch.setattr(scratch, "check_unused", lambda *_: None)
    with (
        scratch_folder(base, "evaluate", [gallery], 0),
        pytest.raises(RunError, match="a run is at work there"),
    ):
        purged(after)
    assert purged(after).rows_gone == 1


def moved_elsewhere(folder):
    """The folder's disk is not there."""
    folder.parent.rename(folder.parent.with_name("unmounted"))


def made_by_another(folder):
    """Another machine has made a folder of this name at this path."""
    about = folder / "scratch.json"
    about.write_text(about.read_text().replace(socket.gethostname(), "other-host"))


def test_what_came_with_a_copy_is_another_gallerys(gallery, base, tmp_path):
    folder = killed(gallery, base)
    shutil.copytree(gallery.location, tmp_path / "copy")
    copy = Gallery.open(str(tmp_path / "copy"))
    drop_abandoned(copy.location)
    with scratch_folder(base, "evaluate", [copy], 0) as other:
        assert other != folder
    with scratch_folder(base, "evaluate", [gallery], 0):  # a run of the original stops no purge
        assert purged(erased(copy)).scratch_folders == 0
    folder = killed(gallery, base)
    (told,) = purged(Gallery.open(copy.location)).out_of_reach
    assert f"version 1 of {gallery.location}" in told
    assert folder.exists()
    assert purged(erased(gallery)).scratch_folders == 1
    assert purged(Gallery.open(copy.location)).out_of_reach == ()
    assert listed(copy) == []


@pytest.mark.parametrize("odd", ["link", "folder", "pipe"])
def test_something_in_the_place_of_the_locked_file(gallery, base, odd):
    folder = killed(gallery, base)
    about = folder / "scratch.json"
    about.unlink()
    {
        "link": lambda: about.symlink_to("/etc/hostname"),
        "folder": about.mkdir,
        "pipe": lambda: os.mkfifo(about),
    }[odd]()
    with scratch_folder(base, "evaluate", [gallery], 0) as other:
        assert other.name == f"{folder.name}-1"
    assert len(purged(erased(gallery)).out_of_reach) == 1
    assert (folder / "features").exists()


@pytest.mark.parametrize("hide", [moved_elsewhere, made_by_another])
def test_a_purge_names_what_it_cannot_reach(gallery, base, hide):
    folder = killed(gallery, base)
    hide(folder)
    found = purged(erased(gallery))
    (told,) = found.out_of_reach
    (entry,) = listed(gallery)
    assert told == (
        f"{folder} on {socket.gethostname()} (evaluate of version 1), listed in {entry}"
    )
    drop_abandoned(gallery.location)
    assert listed(gallery) == [entry]


def test_a_folder_of_another_machine_that_is_seen_here_is_reached(gallery, base):
    folder = killed(gallery, base)
    made_by_another(folder)
    (entry,) = listed(gallery)
    recorded(entry, entry.read_text().replace(socket.gethostname(), "other-host"))
    assert purged(erased(gallery)).scratch_folders == 1
    assert not folder.exists()


@pytest.mark.parametrize(
    "content",
    ["", "{}", '{"folder": "/etc", "host": "h", "verb": "evaluate", "version": 1}'],
)
def test_a_list_that_no_run_wrote_is_named(gallery, content):
    (gallery._root / "_scratch").mkdir()
    recorded(gallery._root / "_scratch" / "x.json", content)
    with pytest.raises(GalleryDamagedError, match=r"_scratch/x.json: .*; delete it"):
        drop_abandoned(gallery.location)


def test_a_changed_entry_deletes_no_folder(gallery, base, tmp_path):
    """The folder it names now is another gallery's, and a purge must not touch it."""
    killed(gallery, base)
    other = new_gallery(tmp_path / "other")
    folder = killed(other.commit([unit(other.target, range(10))], run_id="x"), tmp_path)
    (entry,) = listed(gallery)
    (theirs,) = listed(other)
    entry.write_bytes(theirs.read_bytes())
    for act in (lambda: drop_abandoned(gallery.location), lambda: purged(erased(gallery))):
        with pytest.raises(GalleryDamagedError, match=f"{entry.name}: its bytes are not those"):
            act()
    assert (folder / "features").is_file()
