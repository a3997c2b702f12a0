"""The progress of a command on a real terminal (a pseudo-terminal): what a person sees of it."""

import contextlib
import os
import pty
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.quiet import RAYS_LINE
from tests.jobs.running import SIZE
from tests.model.making import save_onnx
from tests.stages.making import save_network, save_source

ROOT = Path(__file__).parents[2]
CROPS = 96
SEQUENCE = re.compile(rb"\x1b\[[?\d;]*[A-Za-z]")
COUNT = re.compile(rb"extracting.*?(\d+)/(\d+)")
OF_RAYS_PYTHON = re.compile(rb"(INFO|WARNING|ERROR) \w+\.py:\d+ -- ")
LOADING = b"loading the network"


class Screen:
    """What a command writes to its terminal, with the CPU time that it had used by then."""

    def __init__(self, terminal: int, process: subprocess.Popen[bytes]) -> None:
        self._terminal, self.process = terminal, process
        self.written = b""

    def read(self) -> bool:
        """Wait for more; whether there was any before the command closed the terminal."""
        try:
            more = os.read(self._terminal, 1 << 16)
        except OSError:  # how Linux says that the other side is closed
            return False
        self.written += more
        return bool(more)

    def wait_for(self, text: bytes) -> None:
        while text not in self.written:
            assert self.read(), self.written

    def cpu_seconds(self) -> float:
        """What the process has used of the processors, however loaded these are."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> int:
        while self.read():
            pass
        return self.process.wait(60)

    @property
    def lines(self) -> list[bytes]:
        """What stood in a line at some time."""
        return re.split(rb"[\r\n]+", SEQUENCE.sub(b"", self.written))


@contextlib.contextmanager
def on_terminal(*arguments: object) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    for name in ("NO_COLOR", "FORCE_COLOR", "RAY_ADDRESS", "TTY_COMPATIBLE", "CI"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", *map(str, arguments)],
        cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Screen(ours, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)


def extraction(place: Path, network: object, actors: int, *more: object) -> tuple[object, ...]:
    source = save_source(place / "source", CROPS)
    return (
        "extract", source, "--gallery", place / "g", "--model", network, *SIZE[:-1], actors,
        "--unit-size", 32, "--batch-size", 2, *more,
    )  # fmt: skip


def counts(screen: Screen) -> list[int]:
    found = [COUNT.search(line) for line in screen.lines]
    assert {int(each[2]) for each in found if each} == {CROPS}
    return [int(each[1]) for each in found if each]


def is_below(process: int, other: int) -> bool:
    """Whether a process was started by another one, or by what that has started."""
    while process > 1 and process != other:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return process == other


def actors(process: int) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"ExtractUnit" in file.read_bytes() and is_below(int(file.parent.name), process):
                found.append(int(file.parent.name))
    return found


def cpu_seconds_of_help() -> float:
    """What the short help takes of the processors: they may be slow, and more so for a while."""

    def children() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = children()
    subprocess.run([sys.executable, "-m", "jobs.cli", "--help"], cwd=ROOT, check=True,
                   capture_output=True)  # fmt: skip
    return children() - before


def test_it_starts_soon_moves_and_disappears(tmp_path: Path) -> None:
    before = cpu_seconds_of_help()
    with on_terminal(*extraction(tmp_path, save_network(tmp_path).path, 0)) as screen:
        screen.wait_for(LOADING)
        used = screen.cpu_seconds()
        # It is four times as much as the help, and ten times if torch were loaded by then.
        assert used < 7 * max(before, cpu_seconds_of_help())
        assert screen.end() == 0
        shown = counts(screen)
        assert shown == sorted(shown)
        assert len(set(shown)) > 1  # on a busy machine it is drawn only a few times
        # The last thing is to clear the line; what stays are the messages of the log.
        kept = [line.strip() for line in screen.lines if line.strip() and b"\xe2\x94" not in line]
        assert kept[-1].endswith(b"images 96, rejects 0")


@pytest.mark.parametrize(
    "verb",
    [
        ("evaluate", "--query", "/nowhere/q", "--gallery", "/nowhere/g", "--out", "/nowhere/o"),
        ("verify", "/nowhere/g"),
    ],
)
def test_an_error_stands_below_no_display(verb: tuple[str, ...]) -> None:
    with on_terminal(*verb) as screen:
        assert screen.end() == 2
        told = [line for line in screen.lines if line.strip()]
        assert told[-1].startswith(b"error: /nowhere/")


@pytest.mark.ray
@pytest.mark.slow
def test_rays_own_lines_never_appear_in_it(tmp_path: Path) -> None:
    """An actor is killed on the way, about which Ray has much to say.

    For this network neither the command nor an actor loads torch, which takes seconds.
    """
    network = save_onnx(tmp_path / "n.onnx", shape=("batch", 3, 32, 16))
    with on_terminal(*extraction(tmp_path, network, 1)) as screen:
        screen.wait_for(LOADING)
        killed = False
        while not killed:
            assert screen.read(), screen.written
            for actor in actors(screen.process.pid):
                os.kill(actor, signal.SIGKILL)
                killed = True
        assert screen.end() == 0
        of_ray = [
            line
            for line in screen.lines
            if RAYS_LINE.match(line) or OF_RAYS_PYTHON.search(line) or b"(raylet" in line
        ]
        assert of_ray == []
        assert counts(screen)[-1] <= CROPS
