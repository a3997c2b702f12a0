"""The progress of a verb: bars on a terminal, elsewhere a line in the log every half minute."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from jobs.command.console import AS_IT_IS
from jobs.command.printable import printable
from pipeline.runs.headway import Headway

LOG_SECONDS = 30.0
"""How often a line is logged where there is no terminal."""

_log = logging.getLogger(__name__)

StartLine = Callable[[str, int | None], Callable[[int], None]]
"""Start a line with a name and a length (None if unknown); return what advances the line."""


@contextlib.contextmanager
def progress_lines() -> Iterator[StartLine]:
    """Show progress on standard error for the length of a `with` block.

    On a terminal there is a bar for each line, and a full line disappears. Elsewhere the newest
    line that is not full is logged every `LOG_SECONDS`.
    """
    console = Console(stderr=True, **AS_IT_IS)
    with _bars(console) if console.is_terminal else _logged() as start:
        yield start


@contextlib.contextmanager
def working(name: str) -> Iterator[None]:
    """Show that a verb is at work whose steps nobody counts."""
    with progress_lines() as start:
        start(name, None)
        yield


@contextlib.contextmanager
def _bars(console: Console) -> Iterator[StartLine]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Done(),
        _Time(),
    )
    with Progress(*columns, console=console, transient=True) as bars:

        def start(name: str, length: int | None) -> Callable[[int], None]:
            for each in bars.tasks:
                if each.total is None:  # what nobody could count is over when the next one begins
                    bars.update(each.id, visible=False)
            line = bars.add_task(printable(name), total=length)

            def step(steps: int) -> None:
                bars.advance(line, steps)
                if any(each.id == line and each.finished for each in bars.tasks):
                    bars.update(line, visible=False)

            return step

        yield start


class _Done(ProgressColumn):
    """Steps that are done, of how many."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text()
        return Text(f"{int(task.completed):,}/{int(task.total):,}", style="progress.download")


class _Time(ProgressColumn):
    """The time that is left; that which has passed where nobody knows the end."""

    def __init__(self) -> None:
        super().__init__()
        self._left, self._passed = TimeRemainingColumn(), TimeElapsedColumn()

    def render(self, task: Task) -> Text:
        column = self._passed if task.total is None else self._left
        return column.render(task)


@contextlib.contextmanager
def _logged() -> Iterator[StartLine]:
    lines: list[tuple[str, Headway]] = []

    def start(name: str, length: int | None) -> Callable[[int], None]:
        headway = Headway(length)
        lines[:] = [*(line for line in lines if line[1].total is not None), (name, headway)]
        return headway.step

    over = threading.Event()

    def log() -> None:
        while not over.wait(LOG_SECONDS):
            if lines:
                going_on = [line for line in lines if not line[1].is_over]
                _log.info("%s", progress_line(*(going_on or lines)[-1]))

    thread = threading.Thread(target=log, name="progress", daemon=True)
    thread.start()
    try:
        yield start
    finally:
        over.set()
        thread.join()


def progress_line(name: str, headway: Headway) -> str:
    """A line of progress: what, done of how many, the rate, and the expected end.

    >>> progress_line("counting ranks", Headway(2000))
    'counting ranks: 0 of 2,000'
    """
    if headway.total is None:
        return f"{name}: at work for {headway.seconds:,.0f} s"
    line = f"{name}: {headway.done:,} of {headway.total:,}"
    rate, end = headway.rate(), headway.end()
    if rate is None or end is None or headway.is_over:
        return line
    return f"{line}, {rate:,.3g} a second, ends about {end:%Y-%m-%d %H:%M} UTC"
