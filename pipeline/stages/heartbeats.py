"""The progress of actors within their units: small numbers in the key-value store of Ray's head.

Records come back only when units end, which may take minutes, but people want to see progress.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence

import ray
from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_initialized,
    _internal_kv_list,
    _internal_kv_put,
)

from pipeline.archive.planning.units import Unit
from pipeline.stages.execution import Step

_log = logging.getLogger(__name__)

_SECONDS = 0.5
_NAMESPACE, _PREFIX = b"regallery", b"unit-"


class Heartbeat:
    """Count the images of a unit, in its actor, and send the count to the driver twice a second."""

    def __init__(self, unit_id: str) -> None:
        self._key, self._images, self._next = _PREFIX + unit_id.encode(), 0, 0.0

    def __call__(self, images: int) -> None:
        """Count this many more finished images."""
        self._images += images
        if time.monotonic() < self._next or not _internal_kv_initialized():
            return
        self._next = time.monotonic() + _SECONDS
        try:
            _internal_kv_put(self._key, str(self._images).encode(), namespace=_NAMESPACE)
        except ray.exceptions.RayError as error:  # the work matters more than its progress
            _log.debug("progress cannot be sent (%s): %s", self._key.decode(), error)


class ActorProgress:
    """The known progress of the units in work, passed on as steps."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._units: dict[str, int] = {}
        self._lock = threading.Lock()

    def begin(self, units: Sequence[Unit]) -> None:
        """Expect progress of these units from now on."""
        with self._lock:
            self._units.update((unit.id, 0) for unit in units)

    def end(self, unit_id: str, images: int) -> None:
        """A unit has ended with this number of images; 0 if it was given up."""
        with self._lock:
            self._step(images - self._units.pop(unit_id))
        if ray.is_initialized():
            _internal_kv_del(_PREFIX + unit_id.encode(), namespace=_NAMESPACE)

    def listen(self) -> None:
        """Read what actors have sent; only units in work have a key."""
        for key in _internal_kv_list(_PREFIX, namespace=_NAMESPACE):
            unit_id = key.removeprefix(_PREFIX).decode()
            sent = _internal_kv_get(key, namespace=_NAMESPACE)
            with self._lock:
                known = self._units.get(unit_id)
                if sent and known is not None and int(sent) > known:
                    self._units[unit_id] = int(sent)
                    self._step(int(sent) - known)


@contextlib.contextmanager
def actor_progress(step: Step) -> Iterator[ActorProgress]:
    """Listen to actors, on a thread, for the length of a `with` block."""
    found, over = ActorProgress(step), threading.Event()

    def follow() -> None:
        while not over.wait(_SECONDS):
            try:
                found.listen()
            except ray.exceptions.RayError as error:
                _log.debug("progress of actors cannot be followed: %s", error)
                return

    thread = threading.Thread(target=follow, daemon=True)
    if ray.is_initialized():
        thread.start()
    try:
        yield found
    finally:
        over.set()
        if thread.is_alive():
            thread.join()
