"""What goes to standard output, and how."""

import datetime as dt
import io
import json
import logging
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs.command.console import (
    is_json_requested,
    logs_to_stderr,
    show,
    stdout_kept_clean,
    to_json,
    write_stderr,
)


class Color(Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    path: Path


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Inner(Path("a/b")), {"path": "a/b"}),
        ({1: (True, None, 2.5)}, {"1": [True, None, 2.5]}),
        ([float("nan"), float("inf"), np.float32("nan")], [None, None, None]),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.int64(2**53 + 1), 2**53 + 1),
        (Color.RED, "red"),
        (dt.datetime(2024, 2, 3, 4, 5, tzinfo=dt.UTC), "2024-02-03T04:05:00+00:00"),
        (dt.date(2024, 2, 3), "2024-02-03"),
        (frozenset({7}), [7]),
        ("ü\n", "ü\n"),
    ],
)
def test_values_have_their_plain_form(value: object, plain: object) -> None:
    text = to_json(value)
    assert json.loads(text) == plain
    assert "\n" not in text


def test_what_has_no_form_is_refused() -> None:
    with pytest.raises(TypeError, match="bytes has no form in JSON"):
        to_json({"a": b"x"})


def test_tables_are_not_cut_where_they_go_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(box=None, show_header=False)
    table.add_row("x" * 120)
    show(table)
    assert "x" * 120 in capsys.readouterr().out


def test_a_line_is_one_line_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    line = "a path " * 60
    show(Group(Text(line), Text("and the next")))
    assert capsys.readouterr().out == f"{line}\nand the next\n"


def test_columns_are_folded_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("path", "x" * 300)
    show(table)
    assert capsys.readouterr().out.count("x") == 300


def test_json_is_wanted_only_while_output_is_kept_clean() -> None:
    assert not is_json_requested()
    with stdout_kept_clean():
        assert is_json_requested()
    assert not is_json_requested()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _terminals(monkeypatch: pytest.MonkeyPatch) -> tuple[_Terminal, _Terminal]:
    """Output and errors as terminals that know colors."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    out, err = _Terminal(), _Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


def _say_everything() -> None:
    lines = ("g: version 3, 1,255 rows", "rejects: truncated 2", "report: out/report.html")
    show(Group(Text("\n".join(lines)), Text("threshold 0.7500 by far", style="")))
    write_stderr("error: it is gone\n")
    with logs_to_stderr(verbose=False):
        logging.getLogger("jobs").warning("two cameras have one name")
        logging.getLogger("jobs").info("a step is done")


def test_a_terminal_shows_what_matters_in_color(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = _terminals(monkeypatch)
    _say_everything()
    out, err = (stream.getvalue() for stream in streams)
    for part in (
        "\x1b[1m1,255 rows\x1b[0m",
        "\x1b[33mrejects:\x1b[0m",
        "\x1b[1;36mreport: out/report.html\x1b[0m",
        "\x1b[1mthreshold 0.7500\x1b[0m",
    ):
        assert part in out
    assert "\x1b[1;31merror:\x1b[0m it is gone" in err
    assert "\x1b[33mtwo cameras have one name\x1b[0m" in err
    assert "\na step is done\n" in err


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_color_gets_none(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    streams = _terminals(monkeypatch)
    monkeypatch.setenv(name, value)
    _say_everything()
    assert "\x1b" not in "".join(stream.getvalue() for stream in streams)


def test_a_file_gets_no_color(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    _say_everything()
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err


def test_a_message_during_progress_goes_to_what_puts_it_above(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A progress display takes the place of `sys.stderr` after logging was set up."""
    with logs_to_stderr(verbose=False):
        display = io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", display)
            logging.getLogger("pipeline").info("above the bar")
    assert display.getvalue() == "above the bar\n"
