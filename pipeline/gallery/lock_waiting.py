"""How long to wait for a gallery's lock: apart from the lock itself, because what only asks for it
needs no large library.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

EXPIRY_SECONDS = 60.0
"""So long after its last renewal, the lock of a dead process is free."""

_waiting_seconds: ContextVar[float] = ContextVar("waiting_seconds", default=0.0)


@contextmanager
def waited_for(seconds: float) -> Iterator[None]:
    """Within a `with` block, wait for a lock that another process holds instead of failing at
    once.
    """
    token = _waiting_seconds.set(seconds)
    try:
        yield
    finally:
        _waiting_seconds.reset(token)


def waiting_seconds() -> float:
    """How long to wait for a lock."""
    return _waiting_seconds.get()
