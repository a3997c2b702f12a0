"""What verbs write: known to be possible before they work, and never over files of others."""

import contextlib
import ctypes
import os
import shutil

import pytest

from pipeline.errors import InputError, RunError
from pipeline.output_files import check_new_file, check_new_folder
from tests.jobs.galleries import galleries_and_network
from tests.jobs.running import SIZE, refused, run
from tests.jobs.test_full_disk import no_room

CAP_DAC_OVERRIDE = 1


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return galleries_and_network(tmp_path_factory.mktemp("outputs"))


def new(place, out):
    """Every verb that makes something new at `out`, without the flag that says so."""
    p, g, model = place / "p", place / "g", place / "tiny.pt"
    crop = next((place / "source").iterdir())
    made = ("--format", "npy", "--made-by", "x")
    yield ("extract", place / "source", "--model", model, *SIZE, "--gallery", out / "new")
    yield ("import", place / "e" / "features.npy", *made, "--gallery", out / "imported")
    yield ("re-extract", g, "--model", model, "--actors", 0, "--out", out / "re")
    yield ("expand", p, "--out", out / "expanded")
    yield ("link", p, "--threshold", 0.5, "--out", out / "l.csv")
    yield ("search", crop, "--gallery", g, "--model", model, "--html", out / "s.html")
    yield ("evaluate", "--query", p, "--gallery", p, "--replicates", 0, "--out", out / "report")
    yield ("model", "export", model, "--to", "onnx", *SIZE[:4], "--out", out / "m.onnx")
    yield ("export", p, "--out", out / "exported")
    yield ("demo", "--out", out / "demo")


def changing(gallery):
    """Every verb that changes a gallery."""
    yield ("calibrate", gallery, "--far", 0.1, "--replicates", 5)
    yield ("erase", gallery, "--ids", 1)
    yield ("erase", gallery, "--ids", 1, "--purge")
    yield ("compact", gallery)
    yield ("restore", gallery, "--version", 0, "--yes")
    yield ("clean", gallery, "--keep", 1, "--yes")


@contextlib.contextmanager
def without_rights():
    """Without the right of root to write where the mode forbids it."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the version of this call, and this thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the same above 31
    assert libc.capget(header, sets) == 0
    effective = sets[0]
    sets[0] &= ~(1 << CAP_DAC_OVERRIDE)
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(header, sets) == 0


def test_a_folder_that_is_read_only_is_told_before_the_work(capsys, place, tmp_path):
    closed, gallery = tmp_path / "closed", tmp_path / "p"
    closed.mkdir()
    shutil.copytree(place / "p", gallery)
    commands = [*new(place, closed), *changing(gallery)]
    for folder in (closed, *(each for each in (gallery, *gallery.rglob("*")) if each.is_dir())):
        folder.chmod(0o555)
    (gallery / "_lock").chmod(0o444)
    with without_rights():
        for command in commands:
            line = refused(capsys, *command)
            assert str(closed if str(closed) in line else gallery) in line, (command, line)
            can = "can be written there (Permission denied)" in line
            assert can or "cannot be written to" in line, (command, line)
            assert "Errno" not in line, (command, line)
    assert list(closed.iterdir()) == []


def test_a_file_in_the_way_and_a_folder_that_is_missing_are_told(capsys, place, tmp_path):
    (tmp_path / "file").write_text("x")
    for below in (tmp_path / "file", tmp_path / "file" / "deeper"):
        for command in new(place, below):
            line = refused(capsys, *command)
            assert str(tmp_path / "file") in line, (command, line)
            assert "Errno" not in line, (command, line)
    for command in new(place, tmp_path / "none"):
        if command[0] in ("link", "search"):
            assert "must be a file in a folder that exists" in refused(capsys, *command)
        if command[0] == "model":
            assert "does not exist; create it first" in refused(capsys, *command)
    for command in new(place, tmp_path / ("y" * 300)):
        line = refused(capsys, *command)
        assert "yyy" in line or "does not exist" in line, (command, line)
        assert "File name too long" in line or "folder that" in line or "create it" in line, line
    assert (tmp_path / "file").read_text() == "x"
    shutil.copytree(place / "p", tmp_path / "p")
    (tmp_path / "p" / "_calibrations").write_text("x")
    line = refused(capsys, "calibrate", tmp_path / "p", "--far", 0.1, "--replicates", 5)
    assert "_calibrations: this is not a folder, and a folder is needed there" in line


def test_files_of_others_stay(capsys, place, tmp_path):
    """And ours are replaced."""
    for command in new(place, tmp_path):
        out = command[-1]
        files = {
            "link": [out], "search": [out], "model": [out.with_suffix(".toml"), out],
            "evaluate": [out / "report.html", out / "report.json"],
        }.get(command[0], [])  # fmt: skip
        for file in files:
            file.parent.mkdir(exist_ok=True)
            file.write_text("somebody's work")
            line = refused(capsys, *command)
            assert f"{file}: this file is there already, and was not written by regallery" in line
            assert file.read_text() == "somebody's work"
            file.write_text("")  # as mktemp leaves it
        for _ in range(2 if files else 0):
            assert run(capsys, *command)[0] == 0
            assert all(file.stat().st_size for file in files)
    parquet = (*tuple(new(place, tmp_path))[4][:-1], tmp_path / "l.parquet")
    assert run(capsys, *parquet)[0] == run(capsys, *parquet)[0] == 0
    shutil.copy(place / "p" / "_checksums" / "_delta_log.json", tmp_path / "l.parquet")
    assert "not written by regallery" in refused(capsys, *parquet)
    network = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(network + b"\x00")  # no longer what the recipe tells
    model = next(each for each in new(place, tmp_path) if each[0] == "model")
    assert "m.onnx: this file is there already" in refused(capsys, *model)


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(InputError, match="x: this is not a folder"):
        check_new_folder(tmp_path / "x" / "y" / "z")
    with pytest.raises(InputError, match=r"`out` .* must be a file in a folder that exists"):
        check_new_file(tmp_path, "out", lambda _: True)
    (tmp_path / "null").symlink_to("/dev/null")
    with pytest.raises(InputError, match=r"`out` .*null: this is not a regular file"):
        check_new_file(tmp_path / "null", "out", lambda _: True)
    with no_room(), pytest.raises(RunError, match="the disk is full"):
        check_new_folder(tmp_path / "new" / "folder")
    check_new_folder(tmp_path / "new" / "folder")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["null", "x"]
