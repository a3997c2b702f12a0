"""An evaluation that is killed takes over the tiles that were finished, and ends as if nothing had
happened.
"""

import errno
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from jobs import cli
from pipeline.core.neighbors.meetings import Meetings
from tests.jobs.killing import start
from tests.jobs.labeled import add_rows, labeled_gallery, people
from tests.jobs.running import refused, run

ROWS, QUERIES, BLOCK = 1150, 100, 256
BLOCKS = -(-(ROWS + QUERIES) // BLOCK)
TILES = BLOCKS * (BLOCKS + 1) // 2
FLAGS = (
    "--aqe", "joint", "--k", 5, "--times", 2, "--rerank", "--replicates", 0, "--no-open-set",
    "--no-camera-pairs", "--memory", 0.0001,
)  # fmt: skip


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    root = tmp_path_factory.mktemp("resumed")
    labeled_gallery(root / "g", *people(100, ROWS))
    labeled_gallery(root / "q", *people(100, QUERIES, seed=1))
    return root


@pytest.fixture(scope="module")
def wanted(sides):
    """The figures of an evaluation that nothing disturbs."""
    assert cli.main([str(each) for each in command(sides, sides / "undisturbed")]) == 0
    return figures(sides / "undisturbed")


def command(sides, out):
    return ("evaluate", "--query", sides / "q", "--gallery", sides / "g", "--out", out, *FLAGS)


def figures(out):
    """What a report says, but for the time that it took; it stands alone in its folder."""
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]
    results = json.loads((out / "report.json").read_text())["results"]
    return [{name: said for name, said in each.items() if name != "seconds"} for each in results]


def listed(gallery):
    return list((gallery / "_scratch").iterdir())


def signal_itself(number, tiles):
    """Let this process send itself a signal once so many tiles are finished."""
    end, ended = Meetings.end, []

    def watched(self, *blocks):
        end(self, *blocks)
        ended.append(blocks)
        if len(ended) == tiles:
            os.kill(os.getpid(), number)

    Meetings.end = watched


def killed(sides, out, tiles, *flags):
    """What a run leaves that is killed once so many tiles are finished; its folder."""
    process = start(*command(sides, out), *flags, prepare=(signal_itself, signal.SIGKILL, tiles))
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    (folder,) = out.iterdir()
    assert re.fullmatch(r"regallery-evaluate-[0-9a-f]{32}", folder.name)
    return folder


def taken_over(told):
    return re.findall(r"neighbors: (\d+) of (\d+) tiles taken over from an earlier run", told)


@pytest.mark.parametrize("tiles", [1, TILES, TILES + 10])
def test_finished_tiles_are_taken_over_after_a_kill(sides, wanted, tmp_path, capsys, tiles):
    folder = killed(sides, tmp_path / "out", tiles)
    assert len(listed(sides / "g")) == len(listed(sides / "q")) == 1
    status, _, err = run(capsys, *command(sides, tmp_path / "out"))
    assert status == 0
    counts = [tiles] if tiles <= TILES else [TILES, tiles - TILES]
    assert taken_over(err) == [(str(count), str(TILES)) for count in counts]
    assert not folder.exists()
    assert figures(tmp_path / "out") == wanted
    assert listed(sides / "g") == listed(sides / "q") == []


@pytest.mark.ray
def test_tiles_of_ray_workers_are_taken_over_while_those_still_live(
    sides, wanted, tmp_path, capsys
):
    killed(sides, tmp_path / "out", 10, "--workers", 1)
    status, _, err = run(capsys, *command(sides, tmp_path / "out"))
    assert status == 0
    ((count, of),) = taken_over(err)
    assert 10 <= int(count) <= 11  # that in the worker's hands may have been stored, too
    assert int(of) == TILES
    assert figures(tmp_path / "out") == wanted


def test_damaged_blocks_are_made_again(sides, wanted, tmp_path, capsys):
    folder = killed(sides, tmp_path / "out", TILES - 2) / "0" / "graph"
    finished, changed = (next(folder.glob(f"{kind}-*")) for kind in ("rows", "open"))
    finished.unlink()
    finished.touch()
    changed.write_bytes(changed.read_bytes()[:-9] + bytes(9))
    status, _, err = run(capsys, *command(sides, tmp_path / "out"))
    assert status == 0
    for name in (finished.name, changed.name):
        assert f"a block of a neighbor graph is made again: {folder / name}: its bytes" in err
    ((count, _),) = taken_over(err)
    assert TILES - 2 - (2 * BLOCKS - 1) <= int(count) <= TILES - 2 - BLOCKS
    assert figures(tmp_path / "out") == wanted


def test_two_runs_at_once_do_each_other_no_harm(sides, wanted, tmp_path, capsys):
    stopped = (signal_itself, signal.SIGSTOP, 3)
    process = start(*command(sides, tmp_path / "out"), prepare=stopped)
    while "State:\tT" not in Path(f"/proc/{process.pid}/status").read_text():
        time.sleep(0.01)
    (folder,) = (tmp_path / "out").iterdir()
    found, _, err = run(capsys, *command(sides, tmp_path / "out"))
    assert (found, taken_over(err)) == (0, [])
    assert len(list(folder.glob("0/graph/open-*"))) == 3
    os.kill(process.pid, signal.SIGCONT)
    process.join(120)
    assert process.exitcode == 0
    assert figures(tmp_path / "out") == wanted
    assert listed(sides / "g") == listed(sides / "q") == []


@pytest.mark.parametrize("change", ["rows", "settings"])
def test_other_rows_or_settings_take_nothing_over(sides, tmp_path, capsys, change):
    gallery = labeled_gallery(tmp_path / "g", *people(100, ROWS))
    (tmp_path / "q").symlink_to(sides / "q")
    folder = killed(tmp_path, tmp_path / "out", 3)
    if change == "rows":
        add_rows(gallery, *people(2, 2, seed=3))
    flags = ("--alpha", 2) if change == "settings" else ()
    status, _, err = run(capsys, *command(tmp_path, tmp_path / "new"), *flags)
    assert (status, taken_over(err)) == (0, [])
    assert not folder.exists()
    assert figures(tmp_path / "new")


def test_a_purge_and_a_clean_delete_what_was_left(sides, tmp_path, capsys):
    gallery = labeled_gallery(tmp_path / "g", *people(100, ROWS))
    (tmp_path / "q").symlink_to(sides / "q")
    folder = killed(tmp_path, tmp_path / "out", 1)
    status, out, _ = run(capsys, "clean", gallery.location, "--dry-run")
    assert status == 0
    assert f"{folder}\n" in out
    assert "1 scratch folder of killed runs would be deleted" in out
    status, out, _ = run(capsys, "clean", gallery.location)
    assert status == 0
    assert "1 scratch folder of killed runs deleted" in out
    assert list((tmp_path / "out").iterdir()) == listed(tmp_path / "g") == []
    folder = killed(tmp_path, tmp_path / "out", 1)
    status, *_ = run(capsys, "erase", gallery.location, "--ids", 3, "--purge", "--yes")
    assert status == 0
    assert list((tmp_path / "out").iterdir()) == listed(tmp_path / "g") == []


def test_scratch_that_cannot_be_made_is_told_with_its_flag(sides, tmp_path, capsys, monkeypatch):
    real = Path.mkdir

    def mkdir(self, *arguments, **options):
        if self.name.startswith("regallery-"):
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        real(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    line = refused(capsys, *command(sides, tmp_path / "out"))
    assert (
        "cannot be made (Read-only file system); give another place for it with --scratch" in line
    )
    assert not (tmp_path / "out").exists()
