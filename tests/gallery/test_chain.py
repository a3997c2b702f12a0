"""The chain of log entries, its record, and what cuts between the two leave."""

import logging
import shutil

import pytest
from deltalake import DeltaTable

from pipeline.errors import RunError
from pipeline.gallery import chain, chain_checks
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log import entries as log_files
from pipeline.gallery.log import transactions as log
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.verify import verify, verify_at
from tests.gallery.making import contents, expected, unit


class Crash(BaseException):
    """As a kill."""


def crash(*_arguments, **_options):
    raise Crash


def entry(gallery, version):
    return gallery._root / "_delta_log" / f"{version:020d}.json"


def files(found):
    return [each.file for each in found.findings]


def add(gallery, first):
    return gallery.commit([unit(gallery.target, range(first, first + 5))], run_id=f"add {first}")


@pytest.mark.parametrize("commits", [1, 2])
def test_a_cut_between_a_commit_and_its_record(gallery, monkeypatch, commits):
    """The entries tell their predecessors, and the next commit records all."""
    for number in range(commits):
        with monkeypatch.context() as patch:
            patch.setattr(chain, "note_entry", crash)
            with pytest.raises(Crash):
                add(gallery, 20 + 5 * number)
        gallery = Gallery.open(gallery.location)
        assert verify(gallery, all_versions=True).findings == ()
    assert chain.read_log_record(gallery._root).newest == 1
    gallery = add(gallery, 40)
    assert chain.read_log_record(gallery._root).newest == gallery.version == commits + 2
    assert verify(gallery, all_versions=True).findings == ()


def test_a_cut_before_the_first_record_of_an_entry(tmp_path, monkeypatch, empty):
    shutil.rmtree(empty.location)
    with monkeypatch.context() as patch:
        patch.setattr(chain, "note_entry", crash)
        with pytest.raises(Crash):
            Gallery.create(
                empty.location,
                recipe_json="{}",
                fingerprint="f" * 64,
                dimension=8,
                source="",
                layout="",
            )
    found = Gallery.open(empty.location)
    assert verify(found).findings == ()
    assert verify(add(found, 0)).findings == ()


def test_a_record_that_cannot_be_written_is_told(gallery, monkeypatch, caplog):
    def fail(*_):
        raise RunError("no space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(chain, "note_entry", fail)
        gallery = add(gallery, 20)
    assert "the last entry of the log has no checksum yet (no space left" in caplog.text
    assert verify(add(gallery, 25), all_versions=True).findings == ()


@pytest.mark.parametrize("made", [False, True])
def test_a_cut_while_a_checkpoint_is_made(gallery, monkeypatch, made):
    real = DeltaTable.create_checkpoint

    def cut(table):
        if made:
            real(table)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_checkpoint", cut)
        with pytest.raises(Crash):
            log_files.write_checkpoint(gallery._root, gallery.version)
    assert verify(Gallery.open(gallery.location)).findings == ()
    gallery = add(gallery, 20)
    assert len(chain.read_log_record(gallery._root).checkpoints) == 2
    assert verify(gallery, all_versions=True).findings == ()


def test_a_deleted_checkpoint_is_told_and_the_next_commit_goes_on_without(gallery):
    log_files.write_checkpoint(gallery._root, gallery.version)
    for path in (gallery._root / "_delta_log").glob("*checkpoint*"):
        path.unlink()
    gallery = Gallery.open(gallery.location)
    told = ["_delta_log/00000000000000000001.checkpoint.parquet", "_delta_log/_last_checkpoint"]
    assert sorted(files(verify(gallery))) == told
    assert verify(add(gallery, 20)).findings == ()


def test_a_line_that_is_taken_out_of_an_old_entry(gallery):
    """The files of an old version are as many as its entry names: none can leave in silence."""
    later = add(gallery, 20)
    path = entry(gallery, 1)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "000000000010-" not in line))
    for version in (None, 1):
        with pytest.raises(
            GalleryDamagedError, match=rf"{path.name}: this entry of the log is not"
        ):
            Gallery.open(gallery.location, version)
    assert files(verify(later)) == [f"_delta_log/{path.name}"]
    assert files(verify_at(gallery.location)) == [f"_delta_log/{path.name}"]


@pytest.mark.parametrize("name", ["source", "layout"])
def test_a_changed_property(gallery, name):
    path = entry(gallery, 0)
    old = f'"regallery.{name}":"{gallery.properties[name]}"'
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, old[:-2] + 'x"'))
    with pytest.raises(GalleryDamagedError, match=f"{path.name}: this entry of the log is not"):
        Gallery.open(gallery.location)


def test_the_last_entry_is_gone(gallery):
    later = add(gallery, 20)
    entry(gallery, later.version).unlink()
    with pytest.raises(GalleryDamagedError, match=r"00002\.json: this entry of the log is gone"):
        Gallery.open(gallery.location)


@pytest.mark.parametrize(
    ("version", "told"), [(2, "this entry of the log is not as"), (7, "follows no other")]
)
def test_an_entry_that_is_a_copy(gallery, version, told):
    shutil.copy(entry(gallery, 1), entry(gallery, version))
    with pytest.raises(GalleryDamagedError, match=rf"{version:05d}\.json: .*{told}"):
        Gallery.open(gallery.location)


def test_the_record_is_gone(gallery):
    path = gallery._root / "_checksums" / "_delta_log.json"
    path.unlink()
    with pytest.raises(GalleryDamagedError, match=rf"{path.name}: the record of the log's"):
        Gallery.open(gallery.location)
    assert files(verify_at(gallery.location)) == ["_checksums/_delta_log.json"]


def test_commits_of_other_tools_are_named_and_covered_by_the_next_of_ours(gallery):
    DeltaTable(gallery.location).optimize.compact()
    DeltaTable(gallery.location).delete("row_id = 3")
    found = Gallery.open(gallery.location)
    told = verify(found, all_versions=True)
    names = [f"_delta_log/{entry(gallery, version).name}" for version in (2, 3)]
    assert (told.findings, list(told.other_commits)) == ((), names)
    later = add(found, 20)
    told = verify(later, all_versions=True)
    assert (told.findings, list(told.other_commits)) == ((), names)
    assert contents(later) == expected(set(range(25)) - {3, 12})
    path = entry(gallery, 3)
    path.write_text(path.read_text().replace("DELETE", "DELETF"))
    assert files(verify_at(gallery.location)) == [f"_delta_log/{path.name}"]


def test_a_writer_at_work_is_no_damage(gallery, monkeypatch):
    """The record is read, then another version comes and the older ones go."""
    real = chain.read_log_record

    def read_before_a_purge(root):
        found = real(root)
        monkeypatch.undo()
        log_files.forget_before(root, add(gallery, 20).version)
        return found

    monkeypatch.setattr(chain, "read_log_record", read_before_a_purge)
    chain_checks.check_chain(gallery._root)


def test_checkpoints_spare_a_reader_the_entries_before(empty, monkeypatch):
    monkeypatch.setattr(log, "CHECKPOINT_INTERVAL", 3)
    gallery = empty
    for number in range(4):
        gallery = add(gallery, 5 * number)
    read = []
    real = chain.digest_of
    monkeypatch.setattr(chain, "digest_of", lambda path: read.append(path.name) or real(path))
    each = chain_checks.read_each
    monkeypatch.setattr(
        chain_checks,
        "read_each",
        lambda paths: read.extend(path.name for path in paths) or each(paths),
    )
    chain_checks.check_chain(gallery._root)
    assert sorted(set(read)) == [f"{3:020d}.checkpoint.parquet", f"{4:020d}.json"]
