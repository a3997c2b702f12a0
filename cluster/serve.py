"""Run a web application on several machines at once, by Ray Serve.

Needs `ray[serve]`. Each replica is a process with the whole application; Ray Serve listens on one
port, spreads requests over the replicas, and starts another one where a process or machine dies.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError, RunError

_log = logging.getLogger(__name__)
_NAME = "regallery"


@dataclass(frozen=True)
class ReplicaSettings:
    """How many replicas there are, and what each may use."""

    replicas: int = 1
    """Processes that answer requests."""
    num_cpus: float = 1.0
    """CPUs that each of them reserves."""
    host: str = "127.0.0.1"
    """Address to listen on, on every machine."""
    port: int = 8765
    """Port to listen on."""

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise InputError(f"`replicas` must be at least 1, not {self.replicas}")
        if not 0 < self.num_cpus < float("inf"):
            raise InputError(f"`num_cpus` must be above 0, not {self.num_cpus:g}")
        if not 1 <= self.port <= 65_535:
            raise InputError(f"`port` must be from 1 to 65535, not {self.port}")


@contextlib.contextmanager
def replicated(build: Callable[[], Any], settings: ReplicaSettings) -> Iterator[None]:
    """Answer requests with replicas of an application for the length of a `with` block.

    `build` makes the ASGI application, in each replica; it must be picklable. Ray must be joined
    (see `connect`). Raise InputError if Ray Serve is not installed, RunError if no replica
    starts.
    """
    try:
        from ray import serve
        from ray.serve.config import HTTPOptions
    except ImportError as error:
        raise InputError(
            f"replicas need Ray Serve, which cannot be imported here ({error}): install"
            " regallery[serve]"
        ) from error

    @serve.deployment(
        name=_NAME,
        num_replicas=settings.replicas,
        ray_actor_options={"num_cpus": settings.num_cpus},
        max_ongoing_requests=512,
        health_check_period_s=10,
    )
    @serve.ingress()
    class Replica:
        """One process of the application."""

        def __init__(self, build: Callable[[], Any]) -> None:
            self._build = build

        def __serve_build_asgi_app__(self) -> Any:
            return self._build()

    serve.start(http_options=HTTPOptions(host=settings.host, port=settings.port))
    try:
        application = Replica.bind(build)  # type: ignore[attr-defined]
        try:
            serve.run(application, name=_NAME, route_prefix="/")
        except RuntimeError as error:
            raise RunError(f"the replicas did not start: {error}") from error
        _log.info("%d replicas answer on port %d", settings.replicas, settings.port)
        yield
    finally:
        serve.shutdown()
