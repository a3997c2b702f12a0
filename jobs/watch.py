"""watch: bring sources, galleries, tracklets, expanded galleries and links up to date."""

import fcntl
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.text import Text

from jobs.command.console import is_json_requested
from jobs.command.progress import progress_lines
from pipeline.errors import InputError
from pipeline.runs.ages import parse_span
from pipeline.runs.watched import Watched

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from pipeline.runs.camera_health import CameraDrift, SilentCamera
    from pipeline.runs.watch_config import WatchPlan

_log = logging.getLogger(__name__)

_Switch = Annotated[bool, Parameter(negative=())]


@dataclass(frozen=True)
class WatchChecked:
    """The steps of a watch, in their order."""

    file: str
    steps_in_order: tuple[str, ...]


def watch(
    file: Path, /, *, every: str | None = None, check: _Switch = False
) -> Watched | WatchChecked:
    """Bring sources, galleries, tracklets and links up to date, once or again and again.

    A TOML file names what belongs together: a table for each extract, erase,
    tracklets, expand and link, whose keys are the settings of that command.
    Each step runs after those that it depends on, and what one step cannot do
    stops no other. Reports what is new, gone, erased and rejected, cameras
    that have fallen silent, and cameras whose scores have shifted. After
    SIGTERM the work unit in hand is finished; the next run goes on there.

    For example:

        regallery watch north.toml --every 15m

    Args:
        file: TOML file of what is brought up to date. Relative paths count from its folder.
        every: Stay, and begin a round this often, such as 15m or 2h (default: one round).
        check: Check the file, and show its steps in their order; do nothing.
    """
    pause = None if every is None else _pause(every)
    with progress_lines() as progress:
        progress("loading", None)
        from pipeline.runs.watch_config import read_watch
        from pipeline.runs.watching import step_line, watch_once

        # The result of one round is printed; with several, and as JSON, the log says how it goes.
        is_logged = pause is not None or is_json_requested()
        plan = read_watch(file)
        if check:
            return _checked(plan)
        rounds = 0
        with _one_at_a_time(file), _stop_event() as asked:
            while True:
                begun, rounds = time.monotonic(), rounds + 1
                done = watch_once(
                    plan,
                    progress=progress,
                    is_stop_wanted=asked.is_set,
                    rounds=rounds,
                    on_step=lambda step: _log.info("%s", step_line(step)) if is_logged else None,
                )
                for line in _camera_lines(done) if is_logged else []:
                    _log.info("%s", line)
                if pause is None or asked.is_set():
                    return done
                left = pause - (time.monotonic() - begun)
                if asked.wait(max(0.0, left)):
                    return done


def describe(result: Watched | WatchChecked) -> RenderableType:
    """A line for each step, silent camera, and shift of scores that is not by chance."""
    if isinstance(result, WatchChecked):
        lines = [f"{n}. {step}" for n, step in enumerate(result.steps_in_order, start=1)]
        return Group(*(Text(line) for line in lines))
    from pipeline.runs.watching import step_line

    lines = [step_line(each) for each in result.steps]
    lines += _camera_lines(result)
    if result.is_stopped:
        lines.append("stopped as asked: finished work is kept, and the next watch goes on there")
    return Group(*(Text(line) for line in lines))


def _camera_lines(result: Watched) -> list[str]:
    drifted = [each for each in result.drift if each.has_drifted]
    lines = [_silent(each) for each in result.silent] + [_drifted(each) for each in drifted]
    if steady := len(result.drift) - len(drifted):
        lines.append(f"no drift that is not by chance: {steady:,} cameras")
    return lines


def _silent(each: "SilentCamera") -> str:
    line = f"silent camera: {each.camera} of {each.gallery}, last image {each.last}"
    if each.chance is None:
        return line
    return (
        f"{line}; it sent in {each.active_hours:,} of {each.hours:,} hours and in none of the"
        f" {each.quiet_hours:,} since (chance {each.chance:.2g})"
    )


def _drifted(each: "CameraDrift") -> str:
    return (
        f"drift: camera {each.camera} of {each.gallery}, mean score {each.before:.4f} ->"
        f" {each.now:.4f} ({each.shift:+.4f}, {100 * each.level:g} %: {each.low:+.4f} to"
        f" {each.high:+.4f})"
    )


def _checked(plan: "WatchPlan") -> WatchChecked:
    from pipeline.runs.watch_steps import verb_of

    steps = tuple(f"{verb_of(step)} {step.makes}" for step in plan.steps)
    return WatchChecked(plan.config, steps)


def _pause(every: str) -> float:
    try:
        seconds = parse_span(every, "smhd").total_seconds()
    except InputError as error:
        raise InputError(f"--every {error}") from error
    if not seconds:
        raise InputError(f"--every {every}: give a span above 0")
    return seconds


@contextmanager
def _stop_event() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, within a `with` block."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    """Hold the configuration for a watch of this machine; raise InputError if another one holds
    it.
    """
    with file.open("rb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{file}: another watch of it is at work; this one did nothing"
            ) from error
        except OSError as error:  # such as a file system without locks; galleries have their own
            _log.debug("%s cannot be locked: %s", file, error)
        yield


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["watch", *sys.argv[1:]]))
