"""Extraction on an actor pool of Ray Data: units go out, records of some hundred bytes return."""

import gc
import json
import logging
import os
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray
import ray.data

from pipeline.archive.planning.units import Unit
from pipeline.errors import InputError, RunError
from pipeline.gallery.files.unit_files import UnitRecord, write_unit
from pipeline.gallery.sidecars import attempts
from pipeline.stages.crops import Bad
from pipeline.stages.execution import Step, no_step
from pipeline.stages.extract import KEPT, UnitExtractor, Work, rejects_of
from pipeline.stages.heartbeats import ActorProgress, Heartbeat, actor_progress
from pipeline.stages.metrics import add_to_metric
from pipeline.stages.unit_feed import Feed, rows_as_they_come

_log = logging.getLogger(__name__)

ATTEMPTS = 3
"""The number of times that a unit may kill its worker before it is halved."""

_UNITS_AHEAD = 512
"""The number of units that Ray has at once; the others wait in the driver's plan."""

_UNITS_AT_AN_ACTOR, _MANY_UNITS = 2, 4
"""An actor has the unit it works on, and the next: without that, it would wait for a message from
the driver after each unit, which takes a tenth of a second and more. Where there are fewer than
`_MANY_UNITS` for each actor, it has one at a time: the first that is ready would take those of
others.
"""

_ALL_DIE = (
    "each of the first {} work units killed its worker, and none was finished: there may be too "
    "little memory for the network (give fewer `actors` or a smaller `batch_size`)"
)


class ExtractUnit:
    """`UnitExtractor` as an actor of Ray Data: a row with a unit in, a row with its record out."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._extractor = UnitExtractor(work)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Extract the unit, unless it has killed its worker too often; then report that.

        An error that the user can correct comes back as text, because Ray would hide it.
        """
        unit = _unpacked(batch["unit"][0], batch["members"][0])
        try:
            attempt = attempts.note_attempt(self._work.target, unit.id)
            add_to_metric("regallery_restarts", attempt > 1)
            if attempt > ATTEMPTS:
                return _answer(unit.id, None)
            record = self._extractor.extract(unit, Heartbeat(unit.id))
            attempts.end(self._work.target, unit.id)
        except (OSError, InputError, RunError) as error:
            return _answer(unit.id, {"error": str(error)})
        self._count(record)
        return _answer(unit.id, asdict(record))

    def _count(self, record: UnitRecord) -> None:
        add_to_metric("regallery_units", 1)
        add_to_metric("regallery_crops", record.rows)
        add_to_metric("regallery_rejects", record.rejects)
        add_to_metric("regallery_bytes", record.bytes)
        for step, seconds in self._extractor.seconds.items():
            add_to_metric("regallery_seconds", seconds, {"step": step})


def extract_on_ray(
    units: Sequence[Unit],
    work: Work,
    *,
    actors: int,
    grows: bool = False,
    cpus_per_actor: float = 1,
    gpus_per_actor: float = 0,
    environment: dict[str, str] | None = None,
    step: Step = no_step,
) -> Generator[UnitRecord]:
    """Extract units on an actor pool of Ray Data; yield records in the order in which units end.

    Units go out in the given order; of two that wait at an actor, either may begin first. One pool
    serves all of them. It begins with `actors`; if it `grows`, machines that join get more.
    `step(n)` is called with the number of images that actors have finished, also within a unit.

    A worker that dies is started again, and so is its unit. A unit that was begun `ATTEMPTS` times
    and never ended is halved, after all others, until the image that kills the worker is found;
    that image becomes a reject. The records are those of `extract_here`, except for halved units.
    Raise RunError if a worker raises, and if the first units all kill their workers; finished work
    stays on disk.
    """
    options: dict[str, Any] = {"num_cpus": cpus_per_actor, "num_gpus": gpus_per_actor}
    if environment:  # even without variables, a runtime environment would need its own processes
        options["runtime_env"] = {"env_vars": environment}
    with actor_progress(step) as progress:
        outcomes = _Outcomes(work, actors, progress)
        while units:
            pool = _pool(len(units), actors, grows=grows)
            with _freed(), closing(_answers(units, work, pool, options, progress)) as answers:
                for unit, about in answers:
                    record = outcomes.record(unit, about)
                    if record is not None:
                        yield record
            units = outcomes.halves()


@contextmanager
def _freed() -> Iterator[None]:
    """After an error, free the actors: Ray's executor may still hold some.

    It is part of reference cycles, so only Python's collector ends it.
    """
    try:
        yield
    except RunError:
        gc.collect()
        raise


class _Outcomes:
    """What becomes of units: records, halves for another round, or the end of the run."""

    def __init__(self, work: Work, actors: int, progress: ActorProgress) -> None:
        self._work, self._actors, self._progress = work, actors, progress
        self._finished, self._killers = 0, 0
        self._halves: list[Unit] = []

    def record(self, unit: Unit, about: dict[str, Any] | None) -> UnitRecord | None:
        """The record of a finished unit, or of a single image that kills; None for a larger unit.

        Raise RunError where a worker told an error, and if all of the first units killed theirs.
        """
        if about is None:
            return self._killed(unit)
        if "error" in about:
            raise RunError(f"extraction stopped: {about['error']}; {KEPT}")
        self._finished += 1
        self._progress.end(unit.id, len(unit.members))
        about["oddities"] = tuple(map(tuple, about["oddities"]))
        return UnitRecord(**about)

    def halves(self) -> list[Unit]:
        """The units that are to be done next, once: the halves of those that kill their worker."""
        halves, self._halves = self._halves, []
        return halves

    def _killed(self, unit: Unit) -> UnitRecord | None:
        self._killers += 1
        if not self._finished and self._killers > self._actors + 1:
            raise RunError(f"extraction stopped: {_ALL_DIE.format(self._killers)}; {KEPT}")
        if len(unit.members) == 1:
            self._progress.end(unit.id, 1)
            return _reject_killer(unit, self._work)
        self._progress.end(unit.id, 0)
        _log.warning("unit %s keeps killing its worker: halving it", unit.id)
        self._halves += unit.halves(self._work.target.fingerprint)
        return None


def _pool(units: int, actors: int, *, grows: bool) -> ray.data.ActorPoolStrategy:
    """A pool of a number of actors, or one that grows from that, for a number of units."""
    begin_with = min(actors, units)
    return ray.data.ActorPoolStrategy(
        min_size=begin_with,
        max_size=units if grows else begin_with,
        max_tasks_in_flight_per_actor=_UNITS_AT_AN_ACTOR if units >= _MANY_UNITS * actors else 1,
    )


def _answers(
    units: Sequence[Unit],
    work: Work,
    pool: ray.data.ActorPoolStrategy,
    options: dict[str, Any],
    progress: ActorProgress,
) -> Generator[tuple[Unit, dict[str, Any] | None]]:
    """Units with what their actors say of them, in the order in which they end.

    The feed ends as soon as the last unit is in it: then Ray stops actors that have nothing to do.
    The units of a machine that is lost stay with its actor, which waits for a CPU: if those that
    are left kept all of them, it would wait forever.
    """
    by_id, begun = {unit.id: unit for unit in units}, 0
    # If the rows were left open, an error would hold them, and with them the actors and their CPUs.
    with Feed() as feed, closing(_rows(feed.dataset(), work, pool, options)) as rows:

        def begin(number: int) -> None:
            nonlocal begun
            if more := units[begun : begun + number]:
                begun += len(more)
                progress.begin(more)
                feed.add([_packed(unit) for unit in more])
                if begun == len(units):
                    feed.end()

        begin(_UNITS_AHEAD)
        for row in rows:
            begin(1)
            yield by_id[row["unit"]], json.loads(row["record"])


def _rows(
    units: ray.data.Dataset,
    work: Work,
    pool: ray.data.ActorPoolStrategy,
    options: dict[str, Any],
) -> Generator[dict[str, Any]]:
    # Otherwise one more process, of 200 MB, counts which operators of Ray Data are used.
    os.environ.setdefault("RAY_DATA_USAGE_DISABLED", "1")
    context = units.context  # they took a copy of the current one, where it would come too late
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Ray counts units for each actor: only a pool whose actors have all they may have grows.
    most = pool.max_tasks_in_flight_per_actor or 1
    context.autoscaling_config.actor_pool_util_upscaling_threshold = most
    # One unit in each call: a record arrives as soon as its unit is finished.
    extracted = units.map_batches(
        ExtractUnit,
        batch_size=1,
        compute=pool,
        fn_constructor_args=(work,),
        **options,
    )
    for name in ("ray.data", "ray"):  # they log every step
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield from rows_as_they_come(extracted)
    except ray.exceptions.RayError as error:
        # Frames hold Ray's executor, and through it the actors, which would keep their CPUs for as
        # long as somebody holds the error. The error's text has the traceback of the worker.
        del units, extracted
        error.__context__ = None
        told = f"extraction stopped: {_cause(error)}; {KEPT}"
        raise RunError(told) from error.with_traceback(None)


def _cause(error: BaseException) -> str:
    """The line that names the exception in the traceback that Ray reports."""
    named = re.findall(
        r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b.*$", str(error), re.MULTILINE
    )
    ours = [line for line in named if not line.startswith("ray.")]
    return (ours or [type(error).__name__])[-1]


def _answer(unit_id: str, about: dict[str, Any] | None) -> dict[str, list[Any]]:
    return {"unit": [unit_id], "record": [json.dumps(about).encode()]}


def _reject_killer(unit: Unit, work: Work) -> UnitRecord:
    path = unit.members["path"][0].as_py()
    detail = f"its worker died {ATTEMPTS} times over this image alone"
    _log.warning("%s: %s", path, detail)
    empty = work.target.schema.empty_table()
    rejects = rejects_of(unit.members, [Bad(0, "kills-worker", detail)])
    record = write_unit(work.target, unit.id, unit.row_ids, empty, rejects)
    attempts.end(work.target, unit.id)
    add_to_metric("regallery_units", 1)
    add_to_metric("regallery_rejects", 1)
    return record


def _packed(unit: Unit) -> pa.Table:
    """A unit as one row of two columns, with its members as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, unit.members.schema) as stream:
        stream.write_table(unit.members)
    return pa.table({"unit": [unit.id], "members": [sink.getvalue().to_pybytes()]})


def _unpacked(name: str, members: bytes) -> Unit:
    return Unit(str(name), pa.ipc.open_stream(members).read_all().combine_chunks())
