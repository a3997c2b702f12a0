"""A disk without room: every verb that writes says which file it could not write.

No file may grow here beyond a limit, which fails as a full disk does, in whatever writes: Python,
Arrow, Delta, faiss or OpenVINO.
"""

import os
import re
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jobs import cli
from jobs.command import console
from pipeline.errors import RunError
from tests.jobs.galleries import galleries_and_network
from tests.jobs.running import SIZE, refused, result

NAMED = re.compile(rf"error: [^:]*{tempfile.gettempdir()}/[\w./-]+(: |; )")
"""A line that names a file: what is asked for, or what lies in a folder of scratch."""


@contextmanager
def no_room(limit: int = 0) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return galleries_and_network(tmp_path_factory.mktemp("full"))


def verbs(place, out):
    """Every verb that writes, and where."""
    p, g, model = ("--gallery", place / "p"), ("--gallery", place / "g"), place / "tiny.pt"
    imported = ("import", place / "e" / "features.npy", "--format", "npy", "--made-by", "x")
    crop = next((place / "source").iterdir())
    size = ("--height", 32, "--width", 16)
    yield ("extract", place / "source", "--gallery", out / "new", "--model", model, *SIZE)
    yield (*imported, "--gallery", out / "imported")
    yield ("re-extract", *g, "--out", out / "re", "--model", model, "--actors", 0)
    yield ("expand", *p, "--out", out / "expanded")
    yield ("calibrate", *p, "--far", 0.1, "--replicates", 5)
    yield ("erase", *p, "--ids", 1)
    yield ("compact", *p)
    yield ("link", *p, "--out", out / "l.csv", "--threshold", 0.5)
    yield ("link", *p, "--out", out / "l.parquet", "--threshold", 0.5)
    yield ("search", crop, *g, "--model", model, "--html", out / "s.html")
    yield ("evaluate", "--query", place / "p", *p, "--out", out / "report", "--replicates", 0)
    ways = ("--replicates", 0, "--aqe", "joint", "--rerank")
    yield ("evaluate", "--query", place / "p", *p, "--out", out / "ways", *ways)
    yield ("model", "export", model, "--to", "onnx", "--out", out / "m.onnx", *size)
    for form in ("npy", "parquet", "mat", "fast-reid", "faiss"):
        query = ("--query", place / "p") if form == "mat" else ()
        yield ("export", *p, "--out", out / form, "--format", form, *query)
    yield ("demo", "--out", out / "demo")


def test_every_verb_names_the_file(capsys, place, tmp_path):
    for command in verbs(place, tmp_path):
        with no_room():
            line = refused(capsys, *command, status=1)
        assert NAMED.match(line), (command, line)
        assert not any(each in line for each in ("OSError", "DeltaError", "Errno")), line
    assert result(capsys, "verify", "--gallery", place / "p")["findings"] == []


@pytest.mark.parametrize("limit", [700, 3000])
def test_a_disk_that_fills_up_on_the_way(capsys, place, tmp_path, limit):
    """Whatever still fits, the verb succeeds or names what does not."""
    failed = 0
    for command in list(verbs(place, tmp_path))[:-1]:
        if command[0] in ("erase", "compact"):
            continue
        with no_room(limit):
            status = cli.main([*map(str, command)])
        err = capsys.readouterr().err
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert (status, len(lines)) in ((0, 0), (1, 1)), (command, err)
        if lines:
            failed += 1
            assert NAMED.match(lines[0]), (command, lines)
            assert not any(each in lines[0] for each in ("OSError", "DeltaError", "Errno")), lines
    assert failed > 3


def test_standard_output_on_a_full_disk(tmp_path, monkeypatch):
    out = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    with os.fdopen(out, "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        with no_room(), pytest.raises(RunError, match="standard output cannot be written"):
            console.write("x" * 10)


def test_an_error_of_the_system_is_a_line_with_the_name(capsys, tmp_path, monkeypatch):
    """What nothing before it told; faults of the program keep their kind."""

    def fails(_):
        raise PermissionError(13, "Permission denied", str(tmp_path / "x"))

    monkeypatch.setattr(console, "write", fails)
    assert cli.main(["info", "--gallery", str(tmp_path)]) == 2
    capsys.readouterr()
    monkeypatch.setattr(cli, "parse", fails)
    line = refused(capsys, "info", "--gallery", tmp_path, status=1)
    assert line.startswith(f"error: {tmp_path / 'x'}: Permission denied")
