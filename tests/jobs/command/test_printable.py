"""Names that would steer a terminal: no verb lets them through."""

import csv
import io
import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from jobs import cli
from jobs.command import progress
from jobs.command.console import logs_to_stderr, show, to_json
from jobs.command.printable import printable, printable_values
from jobs.command.progress import progress_lines
from tests.jobs.labeled import labeled_gallery, people
from tests.stages.making import save_crop, save_network

STEER = "\x1b]0;owned\x07\x1b[31m\x9b2J\x7f\u202egpj\u2066\r[red]x :smile:\nerror: none"
"""What a name may hold: a title, colors, C1, DEL, overrides, markup, and a line of its own."""
STEERING_FOLDER = "\x9b2J\u202egpj\u2066[red]x"
"""The same, as far as the folder of a gallery may be called so."""
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@given(st.text())
def test_what_is_printable_steers_nothing_and_stays_otherwise(text: str) -> None:
    shown = printable(text)
    assert not STEERING.search(shown)
    assert not set("\n\t\u2028\u2029\x85") & set(shown)
    shown.encode()
    assert printable(shown) == shown
    assert json.loads(to_json({"told": text})) == {"told": text}
    assert not STEERING.search(to_json(text))


@dataclass(frozen=True)
class Inner:
    path: Path
    counts: dict[str, tuple[int, ...]]


def test_values_at_any_depth() -> None:
    found = printable_values([Inner(Path("a\x1b"), {"c\x07": (1, 2)}), None, 2.5, {"x\n"}])
    assert found == [Inner(Path("a\\x1b"), {"c\\x07": (1, 2)}), None, 2.5, {"x\\n"}]


def test_marks_of_rich_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("[red]a[/]", box=None)
    table.add_row(":smile: [bold]b[/]")
    show(table)
    show("[link=x]y[/link]")
    out = capsys.readouterr().out
    for mark in ("[red]a[/]", ":smile: [bold]b[/]", "[link=x]y[/link]"):
        assert mark in out


def test_a_line_of_progress_is_printable(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda **asked: Console(file=screen, force_terminal=True, width=200)
    )
    with progress_lines() as start:
        start(f"{STEER}: [red]searching[/]", 3)
    written = re.sub("\x1b\\[[?\\d;]*[A-Za-z]", "", screen.getvalue())
    assert not STEERING.search(written.replace("\r", ""))
    assert printable(f"{STEER}: [red]searching[/]") in written


@pytest.mark.parametrize("verbose", [False, True])
def test_records_are_a_line_each(capsys: pytest.CaptureFixture[str], verbose: bool) -> None:
    with logs_to_stderr(verbose=verbose):
        logging.getLogger("jobs.x").warning("no thumbnail of %s", STEER)
        try:
            raise ValueError(STEER)
        except ValueError:
            logging.getLogger("jobs.x").warning("failed", exc_info=True)
    err = capsys.readouterr().err
    assert not STEERING.search(err)
    assert f"no thumbnail of {printable(STEER)}\n" in err
    assert "\nTraceback (most recent call last):\n" in err


def test_errors_and_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    for flags in ([], ["-v"]):
        assert cli.main(["info", "--gallery", f"/nowhere/{STEER}", *flags]) == 2
        err = capsys.readouterr().err
        assert not STEERING.search(err)
        assert "\\x1b]0;owned" in err
    assert "Traceback" in err
    assert cli.main(["info", "--gallery", f"/nowhere/{STEER}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def run(capfd: pytest.CaptureFixture[str], *arguments: object, statuses: tuple[int, ...] = (0,)):
    """Run a verb twice, for people and for machines; what both streams hold, and the object."""
    shown = []
    for flags in ([], ["--json"]):
        status = cli.main([*map(str, arguments), *flags])
        out, err = capfd.readouterr()
        assert status in statuses, err
        assert not STEERING.search(out)
        assert not STEERING.search(err)
        assert not any(line.startswith("error: none") for line in (out + err).splitlines())
        shown.append(out)
    return shown[0], json.loads(shown[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose own name steers, as far as a gallery may lie in it."""
    made = tmp_path / STEERING_FOLDER
    made.mkdir()
    return made


def test_an_archive_of_such_names(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network = save_network(folder.parent).path
    with (folder / "rows.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "identity", "camera"])
        for number in range(6):
            save_crop(folder / f"{number}{STEER}.png", number)
            rows.writerow([f"{number}{STEER}.png", number % 3, f"c{number % 2}{STEER}"])
        (folder / f"bad{STEER}.png").write_text("no image")
        rows.writerow([f"bad{STEER}.png", 1, "c0"])
    size = ("--height", 32, "--width", 16)
    gallery = folder / "gallery"
    arguments = ("extract", folder / "rows.csv", "--gallery", gallery, "--model", network)
    run(capfd, *arguments, *size, "--actors", 0)

    out, found = run(capfd, "info", "--gallery", gallery)
    assert "c1\\x1b]0;owned\\x07" in out
    assert found["rows_by_camera"][f"c1{STEER}"] == 3
    assert found["gallery"] == str(gallery)

    crop = folder / f"1{STEER}.png"
    bad = folder / f"bad{STEER}.png"
    searching = ("search", crop, bad, "--gallery", gallery, "--model", network)
    out, found = run(capfd, *searching, statuses=(1,))
    assert "0\\x1b]0;owned\\x07" in out
    assert f"1{STEER}.png" in {hit["path"] for hit in found["results"][0]["hits"]}

    erasing = ("erase", "--gallery", gallery, "--path", f"0{STEER}.png", "--dry-run")
    run(capfd, *erasing)
    run(capfd, "link", "--gallery", gallery, "--out", folder / "l.csv", "--threshold", 0.5)
    run(capfd, "verify", "--gallery", gallery)
    rows_file = next(gallery.glob("*.parquet"))
    rows_file.write_bytes(rows_file.read_bytes()[:-9])
    run(capfd, "verify", "--gallery", gallery, statuses=(1,))
    run(capfd, "export", "--gallery", gallery, "--out", folder / "out", statuses=(1,))


def test_figures_of_such_cameras(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    features, identity, camera = people(6, 40, dimension=8)
    camera = [f"{name}{STEER}" for name in camera]
    labeled_gallery(folder / "g", features, identity, camera)
    sides = ("--query", folder / "g", "--gallery", folder / "g")
    run(capfd, "evaluate", *sides, "--out", folder / "report", "--replicates", 0)
    out, _ = run(
        capfd,
        "calibrate",
        "--gallery",
        folder / "g",
        "--far",
        0.1,
        "--by-camera",
        "--replicates",
        10,
    )
    assert "\\x1b]0;owned\\x07" in out
    run(capfd, "erase", "--gallery", folder / "g", "--ids", 1)


def test_a_name_that_is_no_text(capfd: pytest.CaptureFixture[str]) -> None:
    """The bytes of a file name that are no UTF-8 reach Python as halves of characters."""
    assert cli.main(["info", "--gallery", os.fsdecode(b"/nowhere/\xff\x1b[2J")]) == 2
    assert "\\udcff\\x1b[2J" in capfd.readouterr().err


def test_numbers_are_as_they_were() -> None:
    values = np.arange(3)
    assert printable_values({"a": values})["a"] is values
