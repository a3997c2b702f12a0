"""What goes to standard output, and how."""

import datetime as dt
import io
import json
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs.command.console import is_json_wanted, progress, show, stdout_kept_clean, to_json


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


def test_no_progress_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress() as bar:
        task = bar.add_task("extracting", total=2)
        bar.advance(task)
    assert stderr.getvalue() == ""


def test_json_is_wanted_only_while_output_is_kept_clean() -> None:
    assert not is_json_wanted()
    with stdout_kept_clean():
        assert is_json_wanted()
    assert not is_json_wanted()
