"""Stop a run from outside after the current work unit; finished work is kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pipeline.errors import RunError
from pipeline.stages.execution import StartProgress, Step

_is_wanted: ContextVar[Callable[[], bool] | None] = ContextVar("stop_is_wanted", default=None)


class StopRequestedError(RunError):
    """The run was asked to end."""

    def __init__(self) -> None:
        super().__init__(
            "the run was asked to stop: finished work units are kept; the same command goes on"
        )


@contextmanager
def stopped_when(is_wanted: Callable[[], bool]) -> Iterator[None]:
    """Within a `with` block, `check_stop` raises when `is_wanted` says so."""
    token = _is_wanted.set(is_wanted)
    try:
        yield
    finally:
        _is_wanted.reset(token)


def check_stop() -> None:
    """Raise `StopRequestedError` if the run is to end; called where nothing would be lost."""
    is_wanted = _is_wanted.get()
    if is_wanted is not None and is_wanted():
        raise StopRequestedError


def stopping(start: StartProgress) -> StartProgress:
    """Wrap progress so that each step checks whether the run is to end."""

    def begin(name: str, length: int) -> Step:
        step = start(name, length)

        def both(steps: int) -> None:
            step(steps)
            check_stop()

        return both

    return begin
