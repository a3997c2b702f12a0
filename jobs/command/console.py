"""What a verb shows: results on standard output, everything else on standard error."""

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Literal, TextIO

from rich.console import Console, Group, RenderableType
from rich.text import Text

from jobs.command.naming import as_flags
from jobs.command.printable import printable
from pipeline.errors import RunError
from pipeline.report.plain import plain

_OURS = ("pipeline", "cluster", "jobs")
_PLAIN_WIDTH = 160
AS_IT_IS: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
"""Keep rich from reading its own markup, [red] or :smile:, in names of galleries and files."""
_EMPHASIS = (
    # The headline: the figure that a line begins with, or that it gives after the gallery's name.
    (re.compile(r"^(?:threshold|false-match rate|true-match rate) [\d.e+-]+", re.M), "bold"),
    (re.compile(r"^[\d,]+ (?:links|candidates)\b", re.M), "bold"),
    (re.compile(r"\b[\d,]+ rows?\b"), "bold"),
    (re.compile(r"everything is as it was written"), "bold green"),
    # What to look into.
    (re.compile(r"\b[\d,]+ findings?$", re.M), "bold red"),
    (re.compile(r"^(?:rejects|not searched|not checked|skipped files)\b[^:]*:", re.M), "yellow"),
    (re.compile(r"^.* rows have lost their image\b.*$", re.M), "yellow"),
    (re.compile(r"\bmay be chance\b"), "yellow"),
    (re.compile(r"^older versions still hold them\b", re.M), "yellow"),
    # What to open or to type next.
    (re.compile(r"^(?:report|page): .*$", re.M), "bold cyan"),
    (re.compile(r"(?<![\w-])--[a-z][a-z-]+"), "cyan"),
)
"""What people look for in the output of any verb, and its style on a terminal."""
_RED, _YELLOW, _END = "\x1b[1;31m", "\x1b[33m", "\x1b[0m"
_JSON_WANTED: ContextVar[bool] = ContextVar("json_wanted", default=False)


class ReaderGone(Exception):  # noqa: N818 - it is not an error
    """Nobody reads standard output any more."""


def show(renderable: RenderableType) -> None:
    """Print a result for people: as wide as the terminal; for a file, lines are not broken.

    All text in it must be printable (`jobs.command.printable`): rich lets escape sequences through.
    """
    is_terminal = sys.stdout.isatty()
    color: Literal["auto"] | None = "auto" if is_styled(sys.stdout) else None
    console = Console(width=None if is_terminal else _PLAIN_WIDTH, color_system=color, **AS_IT_IS)
    if color:
        _emphasize(renderable)
    # Captured first: rich would end the process if nobody reads the output.
    with console.capture() as captured:
        console.print(renderable, soft_wrap=not is_terminal)
    write(captured.get())


def is_styled(stream: TextIO) -> bool:
    """Whether color and weight go to a stream: a terminal that knows them, without `NO_COLOR`."""
    return (
        stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") not in ("dumb", "unknown")
    )


def _emphasize(renderable: RenderableType) -> None:
    """Give the lines of a result the styles of `_EMPHASIS`; tables have their own."""
    if isinstance(renderable, Group):
        for part in renderable.renderables:
            _emphasize(part)
    elif isinstance(renderable, Text):
        for pattern, style in _EMPHASIS:
            renderable.highlight_regex(pattern, style)


def write(text: str) -> None:
    """Write to standard output at once.

    Raises:
        ReaderGone: whoever read it has left, as `head` does.
        RunError: it cannot be written, as to a file on a full disk.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Whatever is still buffered would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise ReaderGone from None
        raise RunError(f"standard output cannot be written ({error.strerror})") from error


def write_stderr(text: str) -> None:
    """Write lines to standard error, made printable except for line ends and tabs."""
    sys.stderr.write(_styled(printable(text, keep="\n\t")))
    sys.stderr.flush()


def _styled(text: str, level: int = logging.INFO) -> str:
    """Text for standard error: the word `error:` in red, warnings in yellow, on a terminal only."""
    if not is_styled(sys.stderr):
        return text
    if level >= logging.ERROR:
        return f"{_RED}{text}{_END}"
    if level >= logging.WARNING:
        return f"{_YELLOW}{text}{_END}"
    return re.sub(r"\Aerror:", f"{_RED}error:{_END}", text)


def to_json(result: object) -> str:
    """A result as one JSON object on one line; what is not a number (NaN, infinity) becomes null.

    >>> to_json({"mAP": float("nan"), "ranks": (1, 5)})
    '{"mAP": null, "ranks": [1, 5]}'

    Raises:
        TypeError: the result holds something that JSON has no word for.
    """
    # Escapes all but ASCII, and DEL: everything that a terminal would obey.
    return json.dumps(plain(result), allow_nan=False).replace("\x7f", "\\u007f")


class _PrintableFormatter(logging.Formatter):
    """Records whose message is one printable line; the lines of a traceback stay lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return printable(as_flags(super().formatMessage(record)))

    def format(self, record: logging.LogRecord) -> str:
        return _styled(printable(super().format(record), keep="\n\t"), record.levelno)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Write to what `sys.stderr` is now: a progress display puts lines above itself there."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


@contextlib.contextmanager
def logs_to_stderr(*, verbose: bool) -> Iterator[None]:
    """Show this project's messages (with `verbose` the debugging ones too) and others' warnings."""
    handler = _StderrHandler()
    pattern = "%(asctime)s %(levelname)s %(name)s: %(message)s" if verbose else "%(message)s"
    handler.setFormatter(_PrintableFormatter(pattern))
    before = {name: logging.getLogger(name).level for name in _OURS}
    logging.getLogger().addHandler(handler)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Send everything that libraries print, also from C, to standard error: for --json."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    token = _JSON_WANTED.set(True)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _JSON_WANTED.reset(token)
        os.dup2(kept, 1)
        os.close(kept)


def is_json_requested() -> bool:
    """Whether the result will be shown as JSON (then `submit` requests JSON from its job, too)."""
    return _JSON_WANTED.get()
