"""The resources of one actor, and whether the cluster can provide them for all actors."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import InputError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Node:
    """One machine of a cluster: the CPUs and GPUs that Ray may assign there."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class ActorResources:
    """The number of actors, and the resources that each of them holds while it runs.

    `threads` is the number of threads for the mathematics inside one actor; the default is the
    actor's number of CPUs. A fraction of a GPU lets several actors share it.

    >>> ActorResources(actors=2, cpus_per_actor=4).threads
    4

    Raises:
        InputError: a number that no actor could run with.
    """

    actors: int = 1
    cpus_per_actor: int = 1
    gpus_per_actor: float = 0.0
    threads: int | None = None
    grows: bool = False
    """Whether there may be more actors when machines join."""

    def __post_init__(self) -> None:
        """Refuse values that Ray would accept but never schedule."""
        if self.actors < 1:
            raise InputError(f"`actors` is {self.actors}: at least one actor must run")
        if self.cpus_per_actor < 1:
            raise InputError(
                f"`num_cpus` is {self.cpus_per_actor}: an actor needs at least one CPU"
            )
        if self.gpus_per_actor < 0:
            raise InputError(f"`num_gpus` is {self.gpus_per_actor}: give 0 or more")
        if self.gpus_per_actor > 1 and self.gpus_per_actor != int(self.gpus_per_actor):
            raise InputError(
                f"`num_gpus` is {self.gpus_per_actor}: give a fraction of one GPU, "
                "or a whole number of them"
            )
        if self.threads is None:
            object.__setattr__(self, "threads", self.cpus_per_actor)
        elif self.threads < 1:
            raise InputError(f"an actor of {self.threads} threads cannot run: give at least one")

    @property
    def environment(self) -> dict[str, str]:
        """The variables that limit the mathematics of one actor to its threads."""
        return thread_variables(self.threads or self.cpus_per_actor)


def thread_variables(threads: int) -> dict[str, str]:
    """The variables that limit the mathematics of one process to a number of threads.

    >>> thread_variables(2)
    {'OMP_NUM_THREADS': '2', 'NUMBA_NUM_THREADS': '2'}
    """
    return {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}


def resolve(
    nodes: Sequence[Node],
    *,
    actors: int | None = None,
    cpus_per_actor: int | None = None,
    gpus_per_actor: float | None = None,
    threads: int | None = None,
    may_wait: bool = False,
    may_grow: bool = False,
) -> ActorResources:
    """Fit the settings to the running machines; None means that a value is chosen here.

    The choices are one CPU per actor, no GPU, as many threads as CPUs, and as many actors as fit.
    An actor never spans two machines, so the room is counted machine by machine. If actors
    `may_wait`, there may be more than fit: those without room make the cluster's autoscaler add
    machines. If the number of actors is chosen here, it `may_grow` with the cluster.

    >>> resolve([Node(cpus=4), Node(cpus=3)], cpus_per_actor=2).actors
    3

    Raises:
        InputError: more is asked than the cluster has, which Ray would wait for without end.
    """
    wanted = ActorResources(
        actors=1 if actors is None else actors,
        cpus_per_actor=1 if cpus_per_actor is None else cpus_per_actor,
        gpus_per_actor=0.0 if gpus_per_actor is None else gpus_per_actor,
        threads=threads,
    )
    gpus = sum(node.gpus for node in nodes)
    if wanted.gpus_per_actor > 0 and gpus == 0 and not may_wait:
        raise InputError(
            f"`num_gpus` is {wanted.gpus_per_actor:g} and the cluster has no GPU: "
            "leave it out to run on CPUs"
        )
    room = sum(_room(node, wanted) for node in nodes)
    if room < wanted.actors and not may_wait:
        raise InputError(
            f"{_count(wanted.actors, 'actor')} of {_needs(wanted)} asked, and the cluster "
            f"({_machines(nodes)}) has room for {room}: lower `actors`, `num_cpus` "
            "or `num_gpus`"
        )
    chosen = ActorResources(
        room if actors is None else actors,
        wanted.cpus_per_actor,
        wanted.gpus_per_actor,
        wanted.threads,
        may_grow and actors is None,
    )
    _log.debug("%s of %s each", _count(chosen.actors, "actor"), _needs(chosen))
    return chosen


def _room(node: Node, wanted: ActorResources) -> int:
    """Count the actors that fit on one machine."""
    room = int(node.cpus // wanted.cpus_per_actor)
    if wanted.gpus_per_actor > 0:
        # 1 // 0.1 is 9.0 in floating point; Ray counts in ten-thousandths, so do the same.
        room = min(room, round(node.gpus * 10_000) // max(1, round(wanted.gpus_per_actor * 10_000)))
    return room


def _needs(wanted: ActorResources) -> str:
    needs = _count(wanted.cpus_per_actor, "CPU")
    if wanted.gpus_per_actor > 0:
        needs += f" and {_count(wanted.gpus_per_actor, 'GPU')}"
    return needs


def _machines(nodes: Sequence[Node]) -> str:
    cpus = sum(node.cpus for node in nodes)
    gpus = sum(node.gpus for node in nodes)
    return f"{_count(cpus, 'CPU')} and {_count(gpus, 'GPU')} on {_count(len(nodes), 'machine')}"


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}" + ("" if number == 1 else "s")
