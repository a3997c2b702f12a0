"""Progress off a terminal: a line in the log now and then, and none for what is done at once."""

import io
import logging
import re
import sys
import threading
import time

import pytest
from rich.console import Console

from jobs.command import progress
from jobs.command.console import logs_to_stderr
from jobs.command.progress import progress_line, progress_lines, working
from pipeline.runs.headway import Headway

LINE = re.compile(r"extracting: \d of 8, [\d.]+ a second, ends about \d{4}-\d\d-\d\d \d\d:\d\d UTC")


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.05)


def logged(stderr: str) -> list[str]:
    """The different lines, in order."""
    return list(dict.fromkeys(stderr.splitlines()))


def test_a_line_is_logged_now_and_then(
    often: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.runs.headway._SETTLING_SECONDS", 0.0)
    with logs_to_stderr(verbose=False), progress_lines() as start:
        start("loading", None)
        time.sleep(0.12)
        step = start("extracting", 8)
        for _ in range(4):
            step(1)
            time.sleep(0.06)
    lines = logged(capsys.readouterr().err)
    assert lines[0] == "loading: at work for 0 s"
    assert [line for line in lines[1:] if not LINE.fullmatch(line)] == []
    assert len(lines) > 2


def test_what_is_done_at_once_logs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with logs_to_stderr(verbose=False):
        with progress_lines() as start:
            start("extracting", 2)(2)
        with working("verifying"):
            pass
    assert capsys.readouterr().err == ""
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_the_newest_line_that_is_not_full_is_logged(
    often: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), progress_lines() as start:
        start("counting ranks", 3)
        start("counting pairs", 3)(3)
        time.sleep(0.12)
    assert {record.getMessage() for record in caplog.records} == {"counting ranks: 0 of 3"}


def test_an_error_ends_the_log(often: None) -> None:
    with pytest.raises(ZeroDivisionError), progress_lines():
        raise ZeroDivisionError
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_a_full_line_says_nothing_of_its_end() -> None:
    clock = iter([0.0, 5.0, 5.0, 5.0]).__next__
    headway = Headway(4, clock)
    headway.step(4)
    assert progress_line("expanding", headway) == "expanding: 4 of 4"


def test_bars_show_what_is_done_and_what_cannot_be_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    console = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    with progress_lines() as start:
        start("loading [red]", None)
        time.sleep(0.15)
        step = start("extracting", 2000)
        step(1500)
        time.sleep(0.15)
        step(500)
        time.sleep(0.15)
        start("counting ranks", 5)
        time.sleep(0.15)
    shown = screen.getvalue()
    assert "loading [red]" in shown
    assert "0:00:00" in shown
    assert "1,500/2,000" in shown
    last = shown[shown.rindex("counting ranks") - 200 :]
    assert "extracting" not in last
