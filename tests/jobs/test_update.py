"""A gallery brought up to date with its source: nothing lost, done twice, or guessed."""

import os
import shutil

import pytest

from pipeline.gallery.files.storage import delete_files
from pipeline.gallery.table import Gallery
from pipeline.model import networks
from tests.archive.listing.test_tars import save_tar
from tests.jobs.running import refused, result, run
from tests.jobs.test_extract import table
from tests.stages.making import save_crop, save_source


@pytest.fixture
def source(tmp_path):
    return save_source(tmp_path / "source", 20)


@pytest.fixture
def no_network(monkeypatch):
    """Nothing of the network is read but its hash, and no image is decoded."""

    def forbid():
        def never(*_, **__):
            raise AssertionError("the network was opened, or an image decoded")

        for name in ("open_network", "input_size"):
            monkeypatch.setattr(networks, name, never)
        monkeypatch.setattr("pipeline.model.architectures.reading.read_weights", never)
        monkeypatch.setattr("pipeline.model.extractor.open_network", never)
        monkeypatch.setattr("pipeline.stages.crops.decode", never)

    return forbid


def state(command):
    """Path, id and hash of each row, and the rejects."""
    gallery = Gallery.open(str(command[3]))
    rows = gallery.rows(["row_id", "path", "content_hash"]).to_pylist()
    return rows, gallery.rejects().to_pylist()


def counts(told, *names):
    return tuple(told[name] for name in names)


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "_lock")
    return {path: path.stat().st_mtime_ns for path in found}


def test_an_unchanged_source_opens_no_network_and_decodes_nothing(capsys, command, no_network):
    result(capsys, *command)
    before = files(command[3])
    no_network()
    told = result(capsys, *command)
    assert counts(told, "new", "changed", "unchanged", "version", "units") == (0, 0, 20, 1, 0)
    assert files(command[3]) == before


def test_what_flags_leave_out_is_the_gallerys(capsys, command):
    result(capsys, *command)
    short = [each for each in command if each not in ("--height", 32, "--width", 16)]
    assert result(capsys, *short)["unchanged"] == 20
    assert "width: 16 here, 8 there" in refused(capsys, *short, "--width", 8)


def test_touched_images_are_read_once_and_not_extracted(capsys, command, source, no_network):
    result(capsys, *command)
    before = state(command)
    names = sorted(source.iterdir())
    for path in names[2:5]:
        os.utime(path, (5, 5))
    no_network()
    told = result(capsys, *command)
    assert counts(told, "changed", "touched", "unchanged", "version") == (0, 3, 20, 1)
    assert state(command) == before
    assert result(capsys, *command)["touched"] == 0  # their times are kept
    delete_files([command[3] / "_seen.parquet"])
    assert result(capsys, *command)["touched"] == 3


def test_other_bytes_of_the_same_size_and_time_are_found_by_verify(capsys, command, source):
    result(capsys, *command)
    path = sorted(source.iterdir())[4]
    data, told = path.read_bytes(), path.stat()
    changed = bytearray(data)
    changed[len(data) // 2] ^= 255
    path.write_bytes(changed)
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert counts(result(capsys, *command), "unchanged", "version") == (20, 1)
    found = result(capsys, *command, "--verify")
    assert counts(found, "changed", "rejected", "rows", "version") == (1, 1, 19, 2)
    path.write_bytes(data)
    mended = result(capsys, *command)
    assert counts(mended, "new", "rows", "rejects") == (1, 20, {})


def test_additions_replacements_and_removals_make_one_version(capsys, command, source):
    names = sorted(source.iterdir())
    (source / "0001_c1s1_000900_00.jpg").write_bytes(b"no picture")
    result(capsys, *command)
    (source / "0001_c1s1_000900_00.jpg").unlink()
    save_crop(source / "0099_c1s1_000099_00.png", 99)
    save_crop(names[2], 1000)
    os.utime(names[2], (1, 1))
    names[4].unlink()
    stays = result(capsys, *command)
    assert counts(stays, "new", "changed", "missing", "removed", "rows") == (1, 1, 1, 0, 21)
    assert stays["rejects"] == {"not-an-image": 1}
    told = result(capsys, *command, "--delete-missing")
    assert counts(told, "missing", "removed", "rows", "version") == (1, 1, 20, 3)
    assert told["rejects"] == {}
    rows, _ = table(command)
    assert {row["path"] for row in rows} == {path.name for path in source.iterdir()}
    again = result(capsys, *command, "--delete-missing")
    assert counts(again, "missing", "removed", "version") == (0, 0, 3)
    save_crop(names[4], 4)
    (source / "0099_c1s1_000099_00.png").unlink()
    both = result(capsys, *command, "--delete-missing")
    assert counts(both, "new", "removed", "rows", "version") == (1, 1, 20, 4)


def test_a_source_that_is_not_mounted_empties_nothing(capsys, command, source):
    result(capsys, *command)
    before = state(command)
    names = sorted(source.iterdir())
    for path in names[3:]:
        path.unlink()
    line = refused(capsys, *command, "--delete-missing")
    assert "17 of the 20 rows" in line
    assert "--max-missing" in line
    assert "mounted" in line
    for path in names[:3]:
        path.unlink()
    assert "no image in" in refused(capsys, *command, "--delete-missing")
    shutil.rmtree(source)
    assert "no folder" in refused(capsys, *command, "--delete-missing", "--max-missing", 1)
    assert state(command) == before
    save_source(source, 20)
    for path in names[18:]:  # a tenth, which may go
        path.unlink()
    assert result(capsys, *command, "--delete-missing", "--dry-run")["removed"] == 2
    for path in names[1:]:
        path.unlink(missing_ok=True)
    told = result(capsys, *command, "--delete-missing", "--max-missing", 1)
    assert counts(told, "removed", "rows") == (19, 1)


def test_a_dry_run_tells_and_writes_nothing(capsys, command, source, tmp_path):
    (source / "0001_c1s1_000900_00.jpg").write_bytes(b"")
    before = files(tmp_path)
    told = result(capsys, *command, "--dry-run", "--unit-size", 8, "--batch-size", 4)
    assert files(tmp_path) == before
    assert counts(told, "images", "new", "to_extract", "units", "sampled") == (20, 20, 20, 3, 8)
    assert told["rejects"] == {"empty": 1}
    assert told["bytes_to_extract"] == sum(path.stat().st_size for path in source.iterdir())
    assert told["seconds"] == pytest.approx(20 * told["seconds_an_image"])
    made = result(capsys, *command, "--unit-size", 8)
    size = sum(path.stat().st_size for path in command[3].glob("0*.parquet"))
    assert made["units"] == 3
    assert 0 < told["disk_bytes"] < size  # of small files the footers are the most
    names = sorted(source.iterdir())
    os.utime(names[3], (5, 5))
    names[5].unlink()
    save_crop(names[7], 1000)
    before = files(tmp_path)
    flags = ("--dry-run", "--delete-missing", "--actors", 2)
    told = result(capsys, *command[: command.index("--actors")], *flags)
    assert files(tmp_path) == before
    assert counts(told, "touched", "changed", "missing", "removed") == (1, 1, 1, 1)
    assert counts(told, "to_extract", "units", "workers") == (1, 1, 2)
    done = result(capsys, *command, "--delete-missing")
    for name in ("images", "new", "changed", "unchanged", "touched", "missing", "removed"):
        assert done[name] == told[name]


def test_a_dry_run_of_nothing_opens_no_network(capsys, command, no_network):
    result(capsys, *command)
    no_network()
    status, out, _ = run(capsys, *command, "--dry-run")
    assert status == 0
    assert "to extract: 0 images" in out
    assert "nothing was written" in out


def test_a_dry_run_counts_what_an_interrupted_run_has_done(capsys, command, monkeypatch):
    interrupt_before_the_commit(capsys, command, monkeypatch)
    told = result(capsys, *command, "--dry-run", "--unit-size", 8)
    assert counts(told, "to_extract", "units", "units_resumed") == (0, 0, 3)


def interrupt_before_the_commit(capsys, command, monkeypatch):
    """End a run when its last file is written and nothing is committed."""

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "commit", killed)
        status, _, _ = run(capsys, *command, "--unit-size", 8)
    assert status == 130


def test_a_run_cut_off_before_its_commit_goes_on_without_the_network(
    capsys, command, monkeypatch, no_network, tmp_path
):
    result(capsys, *command)
    whole = table(command)
    second = (*command[:3], tmp_path / "second", *command[4:])
    interrupt_before_the_commit(capsys, second, monkeypatch)
    no_network()
    told = result(capsys, *second, "--unit-size", 8)
    assert counts(told, "units", "units_resumed", "rows") == (3, 3, 20)
    rows, features = table(second)
    assert rows == whole[0]
    assert features.tobytes() == whole[1].tobytes()


def test_a_run_cut_off_after_its_commit_leaves_a_plan_that_counts_no_more(
    capsys, command, monkeypatch
):
    def killed(_location):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.runs.units.drop_plan", killed)
        assert run(capsys, *command)[0] == 130
    result(capsys, "erase", "--gallery", command[3], "--where", "row_id >= 0", "--yes")
    told = result(capsys, *command)
    assert counts(told, "new", "units_resumed", "rows") == (20, 0, 20)
    rows, _ = state(command)
    assert [row["row_id"] for row in rows] == list(range(20, 40))


def test_changed_labels_of_a_manifest_are_brought_in(capsys, command, source, tmp_path):
    manifest = source / "list.csv"
    names = sorted(path.name for path in source.glob("*.png"))
    manifest.write_text("path,identity\n" + "".join(f"{name},7\n" for name in names))
    listed = (command[0], manifest, *command[2:])
    result(capsys, *listed)
    manifest.write_text(manifest.read_text().replace(f"{names[3]},7", f"{names[3]},8"))
    told = result(capsys, *listed)
    assert counts(told, "changed", "unchanged", "rows") == (1, 19, 20)
    rows, _ = table(listed)
    assert {row["path"]: row["identity"] for row in rows}[names[3]] == 8


@pytest.fixture
def tars(tmp_path, source):
    """The source's crops in two tars of a folder, and the command to extract them."""
    names = sorted(source.iterdir())
    for tar, part in (("a.tar", names[:9]), ("b.tar", names[9:])):
        save_tar(tmp_path / "tars" / tar, [(path.name, path.read_bytes()) for path in part])
    return tmp_path / "tars"


def test_tars_give_the_features_of_their_files(capsys, command, tars):
    result(capsys, *command)
    _, features = table(command)
    packed = (command[0], tars, "--gallery", command[3].parent / "packed", *command[4:])
    assert counts(result(capsys, *packed), "images", "rows") == (20, 20)
    rows, found = table(packed)
    assert rows[0]["path"].startswith("a.tar#0001_c")
    assert found.tobytes() == features.tobytes()
    assert counts(result(capsys, *packed), "unchanged", "version") == (20, 1)


def test_a_tar_damaged_since_loses_no_row(capsys, command, tars):
    packed = (command[0], tars, *command[2:])
    result(capsys, *packed)
    whole = (tars / "b.tar").read_bytes()
    data = bytearray(whole)
    data[0] ^= 255
    (tars / "b.tar").write_bytes(data)
    told = result(capsys, *packed, "--delete-missing")
    assert counts(told, "images", "missing", "rows") == (9, 0, 20)
    assert told["rejects"] == {"damaged-tar": 1}
    (tars / "b.tar").write_bytes(whole)
    mended = result(capsys, *packed)
    assert counts(mended, "unchanged", "rows", "rejects") == (20, 20, {})
