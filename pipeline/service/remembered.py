"""What was computed from one version of a gallery, for the requests that follow."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

_KEPT = 64
_Value = TypeVar("_Value")


class Remembered:
    """The last values that were computed, by a key that names what, of which version.

    Requests that come while a value is computed wait for it instead of computing it again.

    >>> remembered = Remembered()
    >>> remembered.value("a", lambda: 1), remembered.value("a", lambda: 2)
    (1, 1)
    """

    def __init__(self) -> None:
        self._values: OrderedDict[Hashable, object] = OrderedDict()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def value(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """The value of a key; raise what computing it raises."""
        with self._lock:
            own = self._locks.setdefault(key, threading.Lock())
        with own:
            if key in self._values:
                return self._values[key]  # type: ignore[return-value]
            made = compute()
            with self._lock:
                self._values[key] = made
                while len(self._values) > _KEPT:
                    gone, _ = self._values.popitem(last=False)
                    self._locks.pop(gone, None)
            return made

    def forget(self) -> None:
        """Forget everything, as after an erasure."""
        with self._lock:
            self._values.clear()
