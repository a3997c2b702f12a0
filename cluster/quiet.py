"""Keep Ray's own log lines from the terminal.

Ray's C++ core writes them to standard error itself, and a thread of its Python code prints a
raylet's reports to standard output. They bypass Python's logging, interrupt progress lines, and
mostly report nothing that a reader could act on: `[2026-11-28 20:00:00,123 E 12 34]
core_worker.cc:513: Failed to ...`.
"""

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO, cast

RAYS_LINE = re.compile(
    rb"\[\d{4}-\d\d-\d\d [\d:,. ]+[DIWECF] \d+ \d+\]"  # its C++ core
    rb"|(\x1b\[\d+m)?\((raylet|autoscaler|pid=|gcs_server)"  # messages of its processes
)
"""The beginning of a line of Ray's own."""


@contextlib.contextmanager
def ray_lines_hidden() -> Iterator[None]:
    """Drop Ray's lines from both streams for the length of a `with` block; all others pass.

    Python's own `sys.stderr` still goes directly to the terminal, so that progress recognizes it as
    one.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    inlet, outlet = os.pipe()
    os.dup2(outlet, 2)
    os.close(outlet)
    before, direct = (
        sys.stderr,
        os.fdopen(os.dup(kept), "w", buffering=1, errors="backslashreplace"),
    )
    is_own = _writes_to_2(before)
    if is_own:
        sys.stderr = direct
    printed, filtered = sys.stdout, cast("TextIO", _WithoutRay(sys.stdout))
    sys.stdout = filtered
    passing = threading.Thread(target=_pass_on, args=(inlet, kept), daemon=True)
    passing.start()
    try:
        yield
    finally:
        if sys.stdout is filtered:
            sys.stdout = printed
        if is_own:
            sys.stderr = before
        direct.close()
        os.dup2(kept, 2)  # closes our end of the pipe; other processes keep theirs
        passing.join(timeout=1)
        if not passing.is_alive():
            os.close(kept)


class _WithoutRay:
    """A stream that drops what Ray prints to it: a text, and then the end of its line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._state = threading.local()  # another thread may print between the two

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        hides_end = getattr(self._state, "hides_end", False)
        is_rays = bool(RAYS_LINE.match(text[:80].encode(errors="replace")))
        self._state.hides_end = is_rays and not text.endswith("\n")
        if is_rays or (hides_end and text == "\n"):
            return len(text)
        return self._stream.write(text)


def _writes_to_2(stream: object) -> bool:
    try:
        return stream.fileno() == 2  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False


def _pass_on(inlet: int, outlet: int) -> None:
    """Write every line that is not Ray's to `outlet`, and an incomplete last line at the end."""
    with os.fdopen(inlet, "rb") as lines:
        hiding = False
        for line in lines:
            # A stack trace follows an error, line by line, indented or numbered.
            hiding = bool(RAYS_LINE.match(line)) or (hiding and line[:1] in b" \t*@")
            if not hiding:
                with contextlib.suppress(OSError):  # nobody reads any more
                    os.write(outlet, line)
