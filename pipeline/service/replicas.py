"""Serve galleries by several processes, on the machines of a Ray cluster."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from time import monotonic

from cluster.connect import connect
from cluster.serve import ReplicaSettings, replicated
from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.model.networks import NetworkFile
from pipeline.service.serving import open_app
from pipeline.service.settings import Served, ServiceSettings
from pipeline.service.shelf import gallery_names


def serve_by_replicas(
    locations: Sequence[str],
    settings: ServiceSettings,
    network: NetworkFile | None,
    replicas: int,
    address: str | None = None,
    *,
    on_ready: Callable[[str], None] = lambda _address: None,
    stopping: threading.Event | None = None,
) -> Served:
    """Answer with several replicas until SIGINT, SIGTERM or `stopping`.

    Each replica reads the galleries itself, so every machine must see them. A browser gets in by
    the token alone: a link that works once is known to one process. Raise `InputError` for
    galleries that cannot be served, `RunError` if the replicas do not start.
    """
    if settings.port == 0:
        raise InputError("replicas need a `port` of their own: give one")
    names = gallery_names(locations)
    for location in locations:
        Gallery.open(location)
    threads = settings.threads or 1
    build = partial(open_app, tuple(locations), replace(settings, threads=threads), network)
    order = ReplicaSettings(replicas, float(threads), settings.host, settings.port)
    told, begun = f"http://{settings.host}:{settings.port}", monotonic()
    over = stopping or threading.Event()
    with _until_told(over), connect(address), replicated(build, order):
        on_ready(told)
        over.wait()
    return Served(told, tuple(names), None, monotonic() - begun)


@contextmanager
def _until_told(stopping: threading.Event) -> Iterator[None]:
    """Let signals set an event, within a `with` block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, lambda *_: stopping.set()) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
