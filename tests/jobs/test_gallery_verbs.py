"""The verbs of an operator: erase, compact, verify, restore, clean, and info about versions."""

import contextlib
import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from jobs import cli
from pipeline.errors import InputError, RunError
from pipeline.gallery import checksums
from pipeline.gallery.scratch import scratch_folder
from pipeline.gallery.sidecars.calibrations import write_calibration
from pipeline.gallery.sidecars.plan import write_plan
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.losses import Lost, lost_before
from pipeline.model.recipe import Recipe
from pipeline.runs.times import parse_time
from tests.gallery.making import contents, path_of, unit
from tests.jobs.running import refused, result, run

ROOT = Path(__file__).parents[2]
RECIPE = Recipe(weights="0" * 64)


def make(folder, fingerprint=RECIPE.fingerprint):
    """Versions 0 to 2: ids 0 to 19 less the reject 12, then less 3."""
    gallery = Gallery.create(
        str(folder),
        recipe_json=RECIPE.to_json(),
        fingerprint=fingerprint,
        dimension=8,
        source="/archive",
        layout="market1501",
    )
    units = [unit(gallery.target, range(10)), unit(gallery.target, range(10, 20), rejected=[12])]
    return gallery.commit(units, run_id="first").commit([], run_id="second", removes=[3])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a gallery as `make` leaves it; tests change copies of it."""
    return Path(make(tmp_path_factory.mktemp("made") / "g").location)


@pytest.fixture
def gallery(made, tmp_path):
    shutil.copytree(made, tmp_path / "g")
    return Gallery.open(str(tmp_path / "g"))


def latest(gallery):
    return Gallery.open(gallery.location)


# erase


def test_erase_by_a_condition(gallery, capsys):
    found = result(
        capsys, "erase", "--gallery", gallery.location, "--where", "camera = 'c1' and row_id > 4"
    )
    assert (found["version"], found["rows_erased"], found["rows_left"]) == (3, 5, 13)
    assert found["purged"] is None
    assert latest(gallery).count == 13
    status, out, _ = run(capsys, "erase", "--gallery", gallery.location, "--ids", 0)
    assert status == 0
    assert "1 row and 0 rejects erased" in out
    assert "older versions still hold them" in out
    assert "an image that is still in the source comes back with the next extract" in out


def test_erase_by_ids_of_a_file_and_the_line(gallery, tmp_path, capsys):
    (tmp_path / "ids").write_text("0\n1\n\n99\n")
    location = gallery.location
    found = result(capsys, "erase", "--gallery", location, "--ids", tmp_path / "ids", 5)
    assert found["rows_erased"] == 3
    assert not {0, 1, 5} & set(latest(gallery).row_ids().tolist())


def test_erase_by_identity_and_path(gallery, capsys):
    location = gallery.location
    assert result(capsys, "erase", "--gallery", location, "--identity", 3, 2)["rows_erased"] == 7
    found = result(capsys, "erase", "--gallery", location, "--path", "c0/*", path_of(1))
    assert (found["rows_erased"], found["rejects_erased"]) == (4, 1)


def test_a_purge_tells_of_scratch_that_it_removed_and_could_not_reach(gallery, tmp_path, capsys):
    for host in (socket.gethostname(), "other-host"):
        with pytest.raises(RunError), scratch_folder(tmp_path, "evaluate", [gallery], host) as left:
            raise RunError("a worker died")
    listed = sorted((gallery._root / "_scratch").iterdir())
    assert len(listed) == 1  # the second run removed what the first left
    other = gallery._root / "_scratch" / "other.json"
    text = listed[0].read_text().replace(socket.gethostname(), "other-host")
    checksums.write_recorded(other, lambda temporary: temporary.write_text(text))
    status, out, _ = run(capsys, "erase", "--gallery", gallery.location, "--ids", 5, "--purge")
    assert status == 0
    assert "deleted: 1 scratch folder of killed runs" in out
    assert f"NOT reached: {left} on other-host (evaluate of version 2), listed in {other}" in out


def test_rows_of_a_gallery_with_a_link_stay_where_a_purge_is_wanted(gallery, tmp_path, capsys):
    (gallery._root / "notes").symlink_to(tmp_path)
    flags = ("erase", "--gallery", gallery.location, "--ids", 5, "--purge")
    assert f"notes: a symbolic link to {tmp_path}" in refused(capsys, *flags)
    assert latest(gallery).version == 2


def test_a_dry_run_changes_nothing(gallery, capsys):
    location = gallery.location
    status, out, _ = run(capsys, "erase", "--gallery", location, "--identity", 3, "--dry-run")
    assert status == 0
    assert "4 rows and 0 rejects would be erased, 14 rows would stay" in out
    assert latest(gallery).version == 2


def test_rows_without_a_time_stay_and_are_told(gallery, capsys):
    location = gallery.location
    status, out, _ = run(capsys, "erase", "--gallery", location, "--older-than", "1d")
    assert status == 0
    assert "18 rows without a capture time kept" in out
    assert latest(gallery).version == 2


def test_erase_and_purge(gallery, capsys):
    location = gallery.location
    found = result(capsys, "erase", "--gallery", location, "--ids", 7, "--purge")
    assert found["purged"]["rows_gone"] == 2
    assert found["purged"]["versions_removed"] == 3
    assert not found["purge_resumed"]
    assert refused(capsys, "info", "--gallery", location, "--version", 1).endswith(
        "version 1 was removed; the oldest left is 3"
    )
    told = refused(capsys, "erase", "--gallery", location, "--purge")
    assert told.endswith(f"nothing was changed: to purge older versions of {location}, add --yes")
    status, out, err = run(capsys, "erase", "--gallery", location, "--purge", "--yes")
    assert status == 0
    assert "no rows selected; this only purges what was erased earlier" in err
    assert "nothing of 0 rows" in out


def test_more_than_half_needs_yes(gallery, capsys):
    command = ("erase", "--gallery", gallery.location, "--where", "row_id >= 9")
    told = refused(capsys, *command)
    assert told == "error: nothing was changed: to erase 10 of 18 rows, add --yes"
    status, out, _ = run(capsys, *command, "--purge", "--json")
    assert (status, latest(gallery).version) == (2, 2)
    message = json.loads(out)["error"]["message"]
    assert message == "nothing was changed: to erase 10 of 18 rows, add --yes"
    status, out, err = run(capsys, *command, "--dry-run")
    assert (status, "10 rows and 0 rejects would be erased, 8 rows would stay" in out) == (0, True)
    status, _, err = run(capsys, *command, "--yes")
    assert (status, latest(gallery).count) == (0, 8)
    assert f"{gallery.location}: 10 of 18 rows and 0 rejects will be erased\n" in err


def test_half_needs_none(gallery, capsys):
    command = ("erase", "--gallery", gallery.location, "--where", "row_id >= 10", "--purge")
    status, _, err = run(capsys, *command)
    assert (status, latest(gallery).count) == (0, 9)
    assert "9 of 18 rows and 0 rejects will be erased, and all older versions purged" in err


def at_a_terminal(monkeypatch, typed, *arguments):
    """Status of a command and what a terminal shows, at which somebody has typed something."""
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    with (
        monkeypatch.context() as patch,
        open(theirs, closefd=False) as stdin,
        open(theirs, "w", buffering=1) as stderr,  # noqa: PTH123
    ):
        patch.setattr(sys, "stdin", stdin)
        patch.setattr(sys, "stderr", stderr)
        status = cli.main([str(each) for each in arguments])
        os.set_blocking(ours, False)
        shown = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                shown += os.read(ours, 1000)
    os.close(ours)
    return status, re.sub("\x1b\\[[0-9;]*m", "", shown.decode())  # without colors


@pytest.mark.parametrize(
    ("typed", "status", "count"),
    [(b"y\n", 0, 17), (b"n\n", 2, 18), (b"\n", 2, 18), (b"\x04", 2, 18)],
)
def test_a_terminal_is_asked(gallery, capsys, monkeypatch, typed, status, count):
    command = ("erase", "--gallery", gallery.location, "--ids", 7)
    found, shown = at_a_terminal(monkeypatch, typed, *command)
    assert (found, latest(gallery).count) == (status, count)
    assert "1 of 18 rows and 0 rejects will be erased" in shown
    assert shown.count("Go on?") == 1
    refusal = "error: nothing was changed: you did not agree to erase 1 of 18 rows"
    assert (refusal in shown) is (status == 2)
    assert "Go on?" not in capsys.readouterr().out


def test_a_terminal_is_asked_once_and_not_with_yes_or_a_dry_run(gallery, capsys, monkeypatch):
    command = ("erase", "--gallery", gallery.location, "--where", "row_id > 5", "--json")
    for flag in ("--dry-run", "--yes"):
        status, shown = at_a_terminal(monkeypatch, b"", *command, flag)
        assert (status, "Go on?" in shown) == (0, False)
        assert json.loads(capsys.readouterr().out)["rows_erased"] == 13
    status, shown = at_a_terminal(monkeypatch, b"", *command)  # nothing is left to erase
    assert (status, "Go on?" in shown) == (0, False)
    capsys.readouterr()
    status, shown = at_a_terminal(monkeypatch, b"maybe\nn\n", *command[:3], "--purge", "--json")
    assert status == 2
    assert "no rows selected; this only purges what was erased earlier, and removes" in shown
    assert shown.count("Go on?") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"].startswith("nothing was changed: you did not agree to purge older")
    assert Gallery.open(gallery.location, 2).count == 18
    assert at_a_terminal(monkeypatch, b"y\n", *command[:3], "--purge")[0] == 0
    with pytest.raises(InputError, match="version 2 was removed"):
        Gallery.open(gallery.location, 2)


@pytest.mark.slow
def test_a_process_at_a_terminal_is_asked(gallery):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.erase", "--gallery", gallery.location, "--ids", "7", "--json"],
        cwd=ROOT, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while b"Go on?" not in shown:
        shown += os.read(ours, 1000)
    assert latest(gallery).count == 18
    os.write(ours, b"y\n")
    assert json.loads(process.communicate(timeout=60)[0])["rows_erased"] == 1
    os.close(ours)
    assert (process.returncode, latest(gallery).count) == (0, 17)


def test_what_was_agreed_to_goes_or_nothing(gallery, capsys, monkeypatch):
    def agree(*_args, **_flags):
        gallery.commit([], run_id="meanwhile", removes=[5])

    monkeypatch.setattr("jobs.erase.confirm", agree)
    told = refused(capsys, "erase", "--gallery", gallery.location, "--ids", 7, status=1)
    assert "version 3 came after version 2" in told
    assert latest(gallery).count == 17


def test_a_purge_that_failed_is_finished_by_the_same_command(gallery, capsys):
    (gallery._root / "notes.txt").write_text(path_of(7))
    command = ("erase", "--gallery", gallery.location, "--ids", 7, "--purge")
    told = refused(capsys, *command, status=1)
    assert "notes.txt holds the bytes of 1 paths" in told
    (gallery._root / "notes.txt").unlink()
    status, out, _ = run(capsys, *command)
    assert status == 0
    assert "0 rows and 0 rejects erased" in out
    assert "this purge also finished an earlier, interrupted one" in out
    assert "nothing of 2 rows" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give --where, --identity, --path, --ids or --older-than"),
        (("--purge", "--dry-run"), "give --where"),
        (("--where", "nothing = 1"), "the condition 'nothing = 1' does not work"),
        (("--where", "camera = 3"), "text in quotes, as in camera = '3'"),
        (("--older-than", "soon"), "--older-than 'soon' is not a span of time"),
        (("--older-than", "9999999999d"), "no time is that long ago"),
        (("--older-than", "999999d"), "no time is that long ago"),
        (("--ids", 2**63), "9223372036854775808 is not a row id or identity: they have 64 bits"),
        (("--identity", -(2**63) - 1), "-9223372036854775809 is not a row id or identity"),
        (("--ids", "nowhere"), "--ids nowhere: neither a row id nor a file"),
        (("--ids", "/dev/null"), "/dev/null: this is a device"),
        (("--where", "1/0 = 1"), "1 / 0 = 1 uses no column"),
        (("--where", "1/0 = 1 or false"), "1 / 0 = 1 uses no column"),
        (("--where", "0/0 > 5"), "0 / 0 > 5 uses no column"),
        (("--where", "path in (select path from x)"), "(SELECT path FROM x) is not allowed"),
        (("--where", " and ".join(["row_id = 1"] * 20_001)), "10,000 are allowed"),
        (("--where", "cast(camera as bigint) = 1"), "does not work: Failed to parse string: 'c"),
        (("--where", "", "--identity", 1), "--where is empty"),
        (("--where", "", "--purge"), "--where is empty"),
        (("--where", "", "--purge", "--yes"), "--where is empty"),
        (("--where= ", "--purge", "--yes"), "--where is empty"),
        (("--identity", "--purge", "--yes"), "--identity is empty"),
        (("--identity", "", "--purge"), "--identity is empty"),
        (("--path", "c0/*", "", "--yes"), "--path is empty"),
        (("--path", "--purge", "--yes"), "--path is empty"),
        (("--ids", "", "--purge"), "--ids is empty"),
        (("--ids", "--purge", "--yes"), "--ids is empty"),
        (("--older-than", "", "--purge"), "--older-than is empty"),
    ],
)
def test_what_erase_refuses(gallery, capsys, arguments, told):
    command = ("erase", "--gallery", gallery.location, *arguments)
    assert told in refused(capsys, *command)
    status, out, _ = run(capsys, *command, "--json")
    error = json.loads(out)["error"]
    assert (status, error["type"], error["exit_status"]) == (2, "InputError", 2)
    assert told in error["message"]
    assert latest(gallery).version == 2
    assert latest(gallery).count == Gallery.open(gallery.location, 2).count == 18


@pytest.mark.parametrize(
    "line",
    ['where = ""', "identity = []", 'path = [""]', "path = []", 'ids = ""', 'older-than = " "'],
)
def test_an_empty_selection_in_a_configuration_is_refused(gallery, tmp_path, capsys, line):
    file = tmp_path / "run.toml"
    file.write_text(f"{line}\npurge = true\nyes = true\n")
    told = refused(capsys, "erase", "--gallery", gallery.location, "--config", file)
    assert f"--{line.split()[0]} is empty in {file}: give it a value" in told
    assert Gallery.open(gallery.location, 1).count == 19


def test_a_panic_of_a_library_is_one_line(gallery, capfd, monkeypatch):
    def panic(*_):
        predicate = "path in (select path from x)"
        DeltaTable(gallery.location).scan(columns=["row_id"], predicate=predicate).read_all()

    monkeypatch.setattr("pipeline.gallery.upkeep.selection.selected_rows", panic)
    assert cli.main(["erase", "--gallery", gallery.location, "--ids", "7", "--json"]) == 1
    out, err = capfd.readouterr()
    assert json.loads(out)["error"]["type"] == "PanicException"
    assert "Traceback" not in err


def test_no_gallery_is_made_by_mistake(tmp_path, capsys):
    for verb in ("erase", "compact", "verify", "restore", "clean"):
        extra = {"erase": ("--ids", 1), "restore": ("--version", 0)}.get(verb, ())
        told = refused(capsys, verb, "--gallery", tmp_path / "none", *extra)
        assert "the folder does not exist" in told
    assert not (tmp_path / "none").exists()


# compact


def test_compact(gallery, capsys):
    before = contents(gallery)
    found = result(capsys, "compact", "--gallery", gallery.location)
    assert (found["version"], found["files_before"], found["files"]) == (3, 2, 1)
    assert contents(latest(gallery)) == before
    status, out, _ = run(capsys, "compact", "--gallery", gallery.location, "--target-size", "1GB")
    assert (status, latest(gallery).version) == (0, 3)
    assert "18 rows in 1 file of" in out


@pytest.mark.parametrize("size", ["big", "192", "1kB", "-1MB"])
def test_what_compact_refuses(gallery, capsys, size):
    told = refused(capsys, "compact", "--gallery", gallery.location, f"--target-size={size}")
    assert f"--target-size '{size}' is not a size" in told
    assert "too small" in refused(
        capsys, "compact", "--gallery", gallery.location, "--target-size", "0MB"
    )


# verify


def test_verify(gallery, capsys):
    found = result(capsys, "verify", "--gallery", gallery.location)
    assert (found["findings"], found["rows_verified"], found["files_verified"]) == ([], 18, 3)
    status, out, _ = run(capsys, "verify", "--gallery", gallery.location, "--all-versions")
    assert status == 0
    assert "those of 2 older versions included: everything is as it was written" in out


def test_what_another_tool_did_is_told_and_compact_writes_its_files_anew(gallery, capsys):
    DeltaTable(gallery.location).delete("row_id = 5")
    status, out, _ = run(capsys, "verify", gallery.location)
    assert status == 0
    assert "17 rows" in out and "nothing wrong was found" in out
    assert f"_delta_log/{3:020d}.json: by another tool" in out
    assert "not checked: the bytes of 1 file that another tool wrote" in out
    shown = [line.split() for line in run(capsys, "info", gallery.location)[1].splitlines()]
    [line] = [each for each in shown if each[:1] == ["3"]]
    assert line[3:] == ["0", "1", "1", "DELETE", "by", "another", "tool"]
    assert run(capsys, "compact", gallery.location)[0] == 0
    assert "everything is as it was written" in run(capsys, "verify", gallery.location)[1]


def test_verify_says_what_it_did_not_check(gallery, tmp_path, capsys):
    source = "whether rows still fit /archive (extract --verify --dry-run)"
    elsewhere = "what was made from this gallery elsewhere: expanded galleries, exports, reports"
    older = "the files that only older versions need, 2 (--all-versions)"
    assert result(capsys, "verify", gallery.location)["not_checked"] == [older, source, elsewhere]
    _, out, _ = run(capsys, "verify", gallery.location, "--all-versions")
    assert out.splitlines()[-2:] == [f"not checked: {source}", f"not checked: {elsewhere}"]
    expanded = tmp_path / "expanded"
    assert run(capsys, "expand", gallery.location, "--out", expanded, "-k", 2)[0] == 0
    told = result(capsys, "verify", expanded)
    assert (told["findings"], told["version"]) == ([], 1)
    assert f"whether features still follow from {gallery.location} (expand)" in told["not_checked"]


def test_verify_names_all_that_is_damaged(gallery, capsys):
    for file in gallery.snapshot.files:
        path = gallery._root / file.path
        path.write_bytes(path.read_bytes()[:-1])
    status, out, _ = run(capsys, "verify", "--gallery", gallery.location, "--json")
    assert status == 1
    found = json.loads(out)
    assert {each["file"] for each in found["findings"]} == {
        file.path for file in gallery.snapshot.files
    }
    status, out, _ = run(capsys, "verify", "--gallery", gallery.location)
    assert status == 1
    assert all(file.path in out for file in gallery.snapshot.files)


def test_verify_looks_at_the_recipe(tmp_path, capsys):
    other = make(tmp_path / "g", fingerprint="e" * 64)
    status, out, _ = run(capsys, "verify", "--gallery", other.location)
    assert status == 1
    assert "the recipe in the log does not have the fingerprint that it names" in out


# restore, and versions by time


def test_restore(gallery, capsys):
    old = contents(Gallery.open(gallery.location, 1))
    found = result(capsys, "restore", "--gallery", gallery.location, "--version", 1)
    assert (found["version"], found["rows"], found["rows_before"]) == (3, 19, 18)
    assert contents(latest(gallery)) == old
    status, out, _ = run(capsys, "restore", "--gallery", gallery.location, "--version", 1)
    assert (status, latest(gallery).version) == (0, 3)
    assert "version 3 already holds what version 1 held" in out
    to_empty = ("restore", gallery.location, "--version", 0)
    told = refused(capsys, *to_empty)
    assert told == (
        "error: nothing was changed: to restore version 0, which takes 19 of 19 rows out of the"
        " latest version, add --yes"
    )
    assert latest(gallery).version == 3
    empty = result(capsys, *to_empty, "--yes")
    assert (empty["rows"], latest(gallery).next_row_id) == (0, 20)
    assert (empty["rows_removed"], empty["rows_returned"]) == (19, 0)
    assert latest(gallery).rejects().num_rows == 0


@pytest.mark.parametrize(("typed", "status"), [(b"y\n", 0), (b"n\n", 2)])
def test_restore_and_clean_ask_at_a_terminal(gallery, capsys, monkeypatch, typed, status):
    command = ("restore", "--gallery", gallery.location, "--version", 1)
    found, shown = at_a_terminal(monkeypatch, typed, *command)
    assert (found, shown.count("Go on?")) == (status, 1)
    assert "takes 0 of 18 rows out of the latest version and brings back 1 row;" in shown
    command = ("clean", "--gallery", gallery.location, "--keep", 1)
    found, shown = at_a_terminal(monkeypatch, typed, *command)
    assert (found, shown.count("Go on?")) == (status, 1)
    lost = "versions 0 to 2" if status == 0 else "versions 0 to 1"
    rows = "0 rows" if status == 0 else "1 row"  # row 3 came back where version 1 was restored
    assert f"this will delete {lost} of {gallery.location} for good, with {rows} that" in shown
    assert (latest(gallery).history()[0].version == 0) is (status == 2)


def test_what_was_agreed_to_is_restored_or_cleaned_or_nothing(gallery, capsys, monkeypatch):
    def agree(*_args, **_flags):
        now = latest(gallery)
        now.commit([], run_id=f"after {now.version}", removes=now.row_ids()[:1])

    for verb, flag in (("restore", "--version"), ("clean", "--keep")):
        monkeypatch.setattr(f"jobs.{verb}.confirm", agree)
        told = refused(capsys, verb, "--gallery", gallery.location, flag, 1, status=1)
        assert "came after version" in told
    assert [each.version for each in latest(gallery).history()] == [0, 1, 2, 3, 4]


def test_rows_in_an_old_file_that_cannot_be_read_count_as_lost(gallery):
    assert lost_before(gallery, 2) == Lost(0, 1, 1)
    assert lost_before(gallery, 1) == Lost(0, 0, 0)
    live = {file.path for file in gallery.snapshot.files}
    (old,) = (f for f in Gallery.open(gallery.location, 1).snapshot.files if f.path not in live)
    (gallery._root / old.path).write_bytes(b"x")
    assert lost_before(gallery, 2) == Lost(0, 1, old.rows)


def test_versions_by_time(gallery, tmp_path, capsys):
    times = [each.timestamp for each in gallery.history()]
    assert times[0] < times[1] < times[2]
    location = gallery.location
    for version, time in enumerate(times):
        told = result(capsys, "info", "--gallery", location, "--at", time.isoformat())
        assert told["version"] == version
    between = times[1] + (times[2] - times[1]) / 2
    found = result(capsys, "restore", "--gallery", location, "--at", between.isoformat())
    assert (found["restored"], found["rows"]) == (1, 19)
    out = tmp_path / "out"
    at = ("--at", times[0].isoformat())
    assert result(capsys, "export", "--gallery", location, "--out", out, *at)["rows"] == 0
    early = (times[0] - timedelta(seconds=1)).isoformat()
    told = refused(capsys, "info", "--gallery", location, "--at", early)
    assert "no version is as old as" in told
    assert "version 0" in told
    both = ("--at", early, "--version", 1)
    assert "a version or a time, not both" in refused(capsys, "info", "--gallery", location, *both)


def test_info_names_the_rejects(gallery, capsys, monkeypatch):
    told = result(capsys, "info", gallery.location, "--rejects")
    assert [(each["path"], each["reason"]) for each in told["reject_files"]] == [
        (path_of(12), "truncated")
    ]
    assert result(capsys, "info", gallery.location)["reject_files"] is None
    _, out, _ = run(capsys, "info", gallery.location, "--rejects")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["reason", "truncated", "1"]
    assert path_of(12) in lines[1]
    monkeypatch.setattr("jobs.info._SHOWN_REJECTS", 0)
    _, out, _ = run(capsys, "info", gallery.location, "--rejects")
    assert "1 reject; 1 are not shown (--json has all)" in out
    _, out, _ = run(capsys, "info", gallery.location, "--rejects", "--version", 0)
    assert out == "0 rejects\n"
    both = ("--rejects", "--versions")
    assert "--versions or --rejects" in refused(capsys, "info", gallery.location, *both)


def test_info_shows_the_calibration_and_whether_it_fits(gallery, capsys):
    def shown():
        _, out, _ = run(capsys, "info", gallery.location)
        lines = " ".join(out.split())
        return lines[lines.index("calibration") : lines.index(" recipe ")]

    assert shown() == "calibration none (regallery calibrate finds a threshold)"
    path = write_calibration(
        gallery,
        {"threshold": 0.5, "rule": "far", "parameters": {"far": 0.001}, "query": "/q",
         "query_version": 3, "by_camera": [{"figures": None}, {"figures": {}}]},
    )  # fmt: skip
    told = result(capsys, "info", gallery.location)["calibration"]
    assert (told["threshold"], told["version"], told["camera_pairs"], told["fits"]) == (
        0.5, 2, 1, True,
    )  # fmt: skip
    when = datetime.fromisoformat(told["calibrated_at"])
    assert abs(datetime.now(UTC) - when) < timedelta(minutes=1)
    assert shown() == (
        "calibration threshold 0.5000 by far (far 0.001), and 1 pair of cameras, of version 2 with"
        f" the queries /q, version 3, {when:%Y-%m-%d %H:%M} UTC; no row has changed since"
    )
    gallery.commit([unit(gallery.target, range(20, 25))], run_id="more", removes=[5])
    assert (
        "; since then 5 rows were added and 1 removed: calibrate again if these are many" in shown()
    )
    assert result(capsys, "info", gallery.location)["calibration"]["fits"] is False
    latest(gallery).commit([], run_id="still more", removes=[6])
    result(capsys, "clean", gallery.location, "--keep", 1, "--yes")
    assert "it is unknown which rows have changed since: calibrate again" in shown()
    path.write_text("{")
    assert "its bytes are not those that were written" in shown()
    assert "problem" in result(capsys, "info", gallery.location)["calibration"]


def test_a_gallery_is_named_by_its_place_or_its_flag(gallery, tmp_path, capsys):
    location = gallery.location
    config = tmp_path / "config.toml"
    config.write_text(f'gallery = "{location}"\n')
    for given in ((location,), ("--gallery", location), ("--config", config)):
        assert result(capsys, "info", *given)["rows"] == 18
        assert result(capsys, "verify", *given, "--all-versions")["versions_verified"] == 3
    assert "Unused Tokens" in refused(capsys, "info", location, "--gallery", location)
    assert "--gallery" in refused(capsys, "erase", "--path", location)  # it is one more path


def test_all_versions_are_shown(gallery, capsys):
    after = gallery
    for row_id in range(4, 12):
        after = after.commit([], run_id=f"erase {row_id}", removes=[row_id])
    shown = run(capsys, "info", "--gallery", gallery.location, "--versions")[1].splitlines()
    assert len(shown) == 1 + 11
    assert shown[-1].split()[0] == "10"
    assert "recipe" not in shown


def test_what_restore_refuses(gallery, capsys):
    location = gallery.location
    for arguments in ((), ("--version", 1, "--at", "2030-01-01")):
        assert "give --version or --at" in refused(
            capsys, "restore", "--gallery", location, *arguments
        )
    told = refused(capsys, "restore", "--gallery", location, "--version", 7)
    assert "version 7 does not exist: the latest is 2" in told
    told = refused(capsys, "restore", "--gallery", location, "--at", "noon")
    assert "--at 'noon' is not a time" in told
    old = Gallery.open(location, 1).snapshot.files[0].path
    (gallery._root / old).write_bytes(b"x")
    told = refused(capsys, "restore", "--gallery", location, "--version", 1, status=1)
    assert f"{old}: 1 bytes where the log says" in told
    (gallery._root / old).unlink()
    told = refused(capsys, "restore", "--gallery", location, "--version", 1, status=1)
    assert old in told
    assert latest(gallery).version == 2


def test_moments():
    assert parse_time("--at", "2030-01-31") == datetime(2030, 1, 31, tzinfo=UTC)
    assert parse_time("--at", "2030-01-31T12:00Z") == datetime(2030, 1, 31, 12, tzinfo=UTC)
    assert parse_time("--at", "2030-01-31 12:00+02:00") == datetime(2030, 1, 31, 10, tzinfo=UTC)
    assert parse_time("--at", None) is None
    for text in ("now", ""):
        with pytest.raises(InputError, match=f"--at '{text}' is not a time"):
            parse_time("--at", text)


# clean


def test_clean(gallery, capsys):
    unit(gallery.target, range(20, 25), rejected=[22])
    write_plan(gallery.location, pa.table({"path": ["x"]}))
    told = result(capsys, "clean", "--gallery", gallery.location, "--dry-run", "--keep", 1)
    assert (len(told["unfinished"]), len(told["old"]), told["versions_removed"]) == (3, 1, 2)
    assert len(latest(gallery).find_units().units) == 1
    status, out, _ = run(capsys, "clean", "--gallery", gallery.location)
    assert status == 0
    assert "3 files of unfinished runs and 0 of 0 older versions deleted" in out
    told_to_agree = refused(capsys, "clean", gallery.location, "--keep", 1)
    assert told_to_agree == (
        f"error: nothing was changed: to delete versions 0 to 1 of {gallery.location} for good,"
        " with 1 row that no later version has, add --yes"
    )
    done = result(capsys, "clean", "--gallery", gallery.location, "--keep", 1, "--yes")
    assert done["old"] == told["old"]
    assert done["rows_lost"] == told["rows_lost"] == 1
    assert refused(capsys, "clean", "--gallery", gallery.location, "--keep", 0).endswith(
        "--keep must be at least 1, not 0"
    )
