"""End the processes of a private cluster if the driver is killed before it can do so.

Ray's own agents notice within 2 seconds that their raylet is gone, but then try for a minute to
report it. A small process waits for the driver's end instead, and kills them.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

GRACE_SECONDS = 5.0
"""How long processes may take to end by themselves after the driver was killed."""

_RAYLET = "/raylet/raylet"


@contextlib.contextmanager
def ended_with_driver() -> Iterator[None]:
    """Kill the processes that this process's raylet has started if this process dies within the
    block.
    """
    processes = [f"{pid}:{start}" for pid, start in _under_raylet(os.getpid())]
    # As a separate file: it starts in milliseconds. Its own session protects it from Ctrl-C.
    command = [sys.executable, "-I", "-S", __file__, *processes]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as guard:
        try:
            yield
        finally:
            guard.kill()


def _watch(processes: list[str]) -> None:
    """Wait until the driver's end of the pipe closes, then for `GRACE_SECONDS`, and kill."""
    sys.stdin.read()
    time.sleep(GRACE_SECONDS)
    for process in processes:
        pid, start = map(int, process.split(":"))
        told = _parent_and_start(pid)
        if told is not None and told[1] == start:  # the number still belongs to the same process
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _under_raylet(driver: int) -> Iterator[tuple[int, int]]:
    """Yield number and start of each process below the raylets that `driver` has started."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        told = _parent_and_start(int(folder.name))
        if told is not None:
            parents[int(folder.name)] = told
    for pid, (_, start) in parents.items():
        above = pid
        while above in parents and parents[above][0] != driver:
            above = parents[above][0]
        if above in parents and above != pid and _is_raylet(above):
            yield pid, start


def _parent_and_start(pid: int) -> tuple[int, int] | None:
    """A process's parent, and its start in the kernel's ticks; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # after the name, which may have any characters
    return int(fields[1]), int(fields[19])


def _is_raylet(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return command.split(b"\0")[0].decode("utf-8", "replace").endswith(_RAYLET)


if __name__ == "__main__":
    _watch(sys.argv[1:])
