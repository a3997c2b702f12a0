"""The work of `extract` between the listing and the commit: plan, extract and watch units."""

import hashlib
import logging
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.archive.planning.units import Units, plan_units, units
from pipeline.errors import InputError, RunError
from pipeline.gallery.files.places import parquet, root_of
from pipeline.gallery.files.unit_files import UnitRecord
from pipeline.gallery.found_units import FoundUnits
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.sidecars.plan import drop_plan, read_plan, write_plan
from pipeline.gallery.table import Gallery
from pipeline.large_tables import ByPath
from pipeline.runs.pace import Pace, PaysOnRay
from pipeline.runs.reporting import RunReporter
from pipeline.runs.settings import ActorSettings
from pipeline.runs.stopping import check_stop
from pipeline.schemas import REJECT_SCHEMA
from pipeline.stages.execution import Step
from pipeline.stages.extract import Work, extract_here

if TYPE_CHECKING:  # Ray takes seconds to load, and small work does without it
    from cluster.profiles import ActorResources

_log = logging.getLogger(__name__)

ASKED_FOR = ("low-quality", "not-best")
"""The reasons of rejects that settings cause: `min_quality` and `per_tracklet`."""


@dataclass(frozen=True)
class Cut:
    """The work of a run, cut into units."""

    planned: pa.Table
    todo: Units
    finished: list[UnitRecord]
    """Units that an interrupted run finished."""
    useless: FoundUnits
    """Everything else that earlier runs left."""


def cut_units(present: Gallery | None, images: ByPath, unit_size: int, *, made_by: str) -> Cut:
    """The units of the images, by an interrupted run's plan if there is one; writes nothing.

    `made_by` names the settings that their rows depend on; it is a part of the units' names.
    """
    if present is None:
        planned = plan_units(images, made_by, unit_size=unit_size)
        return Cut(planned, units(planned), [], FoundUnits((), (), ()))
    planned = plan_units(
        images,
        made_by,
        next_row_id=present.next_row_id,
        unit_size=unit_size,
        leftover=read_plan(present.location),
    )
    every = units(planned)
    wanted = set(every.ids)
    found = present.find_units()
    finished = [record for record in found.units if record.unit_id in wanted]
    stray = [record for record in found.units if record.unit_id not in wanted]
    todo = every.without({record.unit_id for record in finished})
    return Cut(planned, todo, finished, replace(found, units=tuple(stray)))


def keep_plan(present: Gallery, cut: Cut, lock: Lock) -> None:
    """Delete what earlier runs left and this run cannot use; store the plan until the commit."""
    present.clear(cut.useless, lock)
    if len(cut.planned):
        write_plan(present.location, cut.planned)
    else:
        drop_plan(present.location)


def extract_units(
    cut: Cut,
    work: Work,
    on: ActorSettings,
    *,
    listed_rejects: int,
    limit: int,
    report: RunReporter,
) -> tuple[list[UnitRecord], int]:
    """Extract the units; returns all records, those of the finished units first, and the number of
    Ray actors (0 if this process did the work).

    Raise RunError as soon as more than `limit` inputs are rejects, or the run is asked to stop
    (`stopped_when`). Rejects of the listing count; those of low quality do not.
    """
    done: list[UnitRecord] = []
    rejects = listed_rejects
    units = len(cut.finished) + len(cut.todo)
    report.count(0, units, rejects)
    run = _Run(cut, work, on, report.start("extracting", len(cut.planned)))
    with closing(run.records()) as records:
        for record in records:
            done.append(record)
            faulty = _faulty(work.target.location, record)
            rejects += len(faulty)
            report.count(len(done), units, rejects)
            check_stop()
            if len(faulty) and rejects > limit:
                raise RunError(
                    f"{rejects} inputs were rejected so far; the limit is {limit} (`max_rejects`)."
                    f" {_why(faulty)}. Finished work units are kept: repair the source, or run the"
                    " same command with a larger `max_rejects` to go on"
                )
    return done, run.actors


def commit_units(
    present: Gallery,
    done: Sequence[UnitRecord],
    lock: Lock,
    *,
    listed_rejects: pa.Table,
    removes: NDArray[np.int64],
    forget: Sequence[str],
    paths: pa.ChunkedArray | None = None,
) -> Gallery:
    """Commit one version: add all units and the rejects of the listing, remove the rows `removes`
    (ids), and drop the rejects of the paths to `forget`.

    `paths` are those of the units' members. A run that found nothing new makes no version.
    """
    new = listed_rejects.join(present.rejects(), ["path", "reason"], join_type="left anti")
    names = sorted(record.unit_id for record in done) + sorted(new["path"].to_pylist())
    names += [hashlib.sha256(removes.tobytes()).hexdigest()] if len(removes) else []
    names += sorted(forget)
    if not names:
        return present
    run = hashlib.sha256("\n".join([str(present.version), *names]).encode()).hexdigest()[:16]
    after = present.commit(
        done,
        run_id=f"extract-{run}",
        removes=removes,
        rejects=new,
        forget=forget,
        paths=paths,
        lock=lock,
    )
    drop_plan(present.location)
    return after


class _Run:
    """Units extracted here or on Ray; if the settings do not say, wherever it is faster."""

    def __init__(self, cut: Cut, work: Work, on: ActorSettings, step: Step) -> None:
        self._cut, self._work, self._on, self._step = cut, work, on, step
        self.actors = 0

    def records(self) -> Generator[UnitRecord]:
        """Records of the finished units, then of the others as they end."""
        for record in self._cut.finished:
            self._step(record.members)
            yield record
        if not self._cut.todo:
            return
        if self._on.actors == 0:
            yield from extract_here(self._cut.todo, self._work, self._step)
        elif may_stay(self._on):
            yield from self._begun_here()
        else:
            yield from self._on_ray(self._cut.todo)

    def _begun_here(self) -> Generator[UnitRecord]:
        """Work in this process until its pace shows that Ray would be faster."""
        pace = Pace(self._cut.todo.images, len(os.sched_getaffinity(0)), self._step)
        done = set()
        try:
            for record in extract_here(self._cut.todo, self._work, pace):
                done.add(record.unit_id)
                pace.end_unit()
                yield record
            return
        except PaysOnRay as reason:
            _log.debug("%s", reason)
        self._step(-pace.given_up)
        yield from self._on_ray(self._cut.todo.without(done))

    def _on_ray(self, todo: Units) -> Generator[UnitRecord]:
        from pipeline.stages.extract_on_ray import extract_on_ray

        with on_cluster(self._on) as (resources, environment):
            self.actors = resources.actors
            yield from extract_on_ray(
                todo.largest_first(),
                self._work,
                actors=resources.actors,
                grows=resources.grows,
                cpus_per_actor=resources.cpus_per_actor,
                gpus_per_actor=resources.gpus_per_actor,
                environment=environment,
                step=self._step,
            )


def may_stay(on: ActorSettings) -> bool:
    """Whether Ray is neither requested nor joined, so that it is started only if it is faster."""
    if on.actors is not None or on.address or on.num_cpus or on.num_gpus:
        return False
    if os.environ.get("RAY_ADDRESS"):
        return False
    ray = sys.modules.get("ray")
    return ray is None or not ray.is_initialized()


@contextmanager
def on_cluster(on: ActorSettings) -> Iterator[tuple["ActorResources", dict[str, str]]]:
    """Join Ray, unless this process has joined, and fit the settings to its machines.

    Yield the resources, and the environment variables that workers do not have yet. A private
    cluster's workers have theirs from the start: Ray starts no other process for them.
    """
    from cluster.connect import connect
    from cluster.profiles import resolve, thread_variables

    if on.address and on.address.startswith("ray://"):
        raise InputError(
            f"`address` {on.address}: Ray Data does not run over ray://; give host:port on the"
            " cluster's own network, or submit the job"
        )
    begin_with = thread_variables(on.num_cpus or 1)
    with connect(on.address, variables=begin_with) as cluster:
        resources = resolve(
            cluster.nodes,
            actors=on.actors,
            cpus_per_actor=on.num_cpus,
            gpus_per_actor=on.num_gpus,
            may_wait=on.autoscale and not cluster.started_here,
            may_grow=not cluster.started_here,
        )
        wanted = resources.environment
        yield resources, {} if wanted.items() <= cluster.variables.items() else wanted


def _faulty(location: str, record: UnitRecord) -> pa.Table:
    """The rejects of a unit, without those that a setting asks for."""
    if record.rejects_path is None:
        return REJECT_SCHEMA.empty_table()
    rejects = pq.read_table(parquet(root_of(location) / record.rejects_path))
    return rejects.filter(pc.invert(pc.is_in(rejects["reason"], value_set=pa.array(ASKED_FOR))))


def _why(faulty: pa.Table) -> str:
    """The most frequent reason of a unit's rejects, with an example."""
    rejects = faulty.to_pylist()
    reason, count = Counter(each["reason"] for each in rejects).most_common(1)[0]
    first = next(each for each in rejects if each["reason"] == reason)
    return f"In the last unit: {count} for {reason}; {first['path']}: {first['detail']}"
