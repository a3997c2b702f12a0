"""report.json and report.html as files: strict, whole, and safely written."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import InputError, RunError
from pipeline.report.page import render_report, write_page
from pipeline.report.plain import plain
from pipeline.report.results import Report
from pipeline.report.thumbnails import Thumbnails
from tests.report.changing import changed


def test_json_is_strict_and_in_order(
    report: Report, thumbnails: Thumbnails, tmp_path: Path
) -> None:
    json_path, html_path = write_page(report, tmp_path / "a" / "b", thumbnails)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = json_path.read_text("utf-8")
    loaded = json.loads(text, parse_constant=refuse)
    assert loaded == plain(report)
    assert list(loaded)[:3] == ["schema", "created", "regallery"]
    assert loaded["results"][0]["query_cameras"][2] == {
        "camera": None, "queries": 1, "valid": 0, "rank1": None, "mAP": None,
    }  # fmt: skip
    assert "data:image" not in text
    assert html_path.read_text("utf-8") == render_report(report, thumbnails)
    assert sorted(path.name for path in json_path.parent.iterdir()) == [
        "report.html",
        "report.json",
    ]


def test_a_folder_that_nobody_can_make(report: Report, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/proc/self: no file can be written there"):
        write_page(report, "/proc/self/out")
    with pytest.raises(InputError, match=r"no file can have this name \(File name too long\)"):
        write_page(report, tmp_path / ("x" * 300))
    with pytest.raises(InputError, match="cannot be made"):
        write_page(report, tmp_path / ("x" * 250) / ("y" * 250) / ("z" * 300))


def test_a_file_in_the_way(report: Report, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="is not a folder"):
        write_page(report, tmp_path / "out")
    with pytest.raises(InputError, match="is not a folder"):
        write_page(report, tmp_path / "out" / "deeper")
    assert (tmp_path / "out").read_text() == "mine"


def test_what_a_killed_run_left_goes_and_what_an_editor_keeps_stays(
    report: Report, tmp_path: Path
) -> None:
    for name in (".report.html.0123abcd", ".report.json.swp"):
        (tmp_path / name).write_text("x")
    write_page(report, tmp_path)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".report.json.swp"]


def test_a_reader_never_sees_half_a_page(report: Report, tmp_path: Path) -> None:
    whole = len(render_report(report))
    _, html_path = write_page(report, tmp_path)
    seen, done = set(), threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(len(html_path.read_text("utf-8")))

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(3):
        write_page(report, tmp_path)
    done.set()
    reader.join()
    assert seen == {whole}


def test_a_failed_write_leaves_the_old_page(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    json_path, _ = write_page(report, tmp_path)
    before = json_path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match=r"/report\.json: .*No space left"):
        write_page(replace(report, regallery="9.9"), tmp_path)
    assert json_path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_undecodable_names_are_shown_as_escapes(report: Report, tmp_path: Path) -> None:
    report = changed(report, "ranked", "best", 0, "query", "path", to="caf\udce9.jpg")
    json_path, html_path = write_page(report, tmp_path)
    assert "caf\\udce9.jpg" in html_path.read_text("utf-8")
    path = json.loads(json_path.read_text("ascii"))["ranked"]["best"][0]["query"]["path"]
    assert path == "caf\udce9.jpg"
