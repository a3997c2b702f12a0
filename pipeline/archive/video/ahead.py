"""Read an iterator ahead of its consumer, on a thread."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Each = TypeVar("Each")


def ahead(things: Iterable[Each], count: int) -> Iterator[Each]:
    """Yield the same things; a thread makes at most `count` of them in advance.

    An error there is raised here. If the consumer stops early, the thread ends, too.

    >>> list(ahead(iter("abc"), 2))
    ['a', 'b', 'c']
    """
    made: queue.Queue[tuple[bool, Each | BaseException | None]] = queue.Queue(max(1, count))
    stopped = threading.Event()

    def put(more: bool, thing: Each | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                made.put((more, thing), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for thing in things:
                if not put(True, thing):
                    return
            put(False, None)
        except BaseException as error:  # noqa: BLE001 (it is raised below)
            put(False, error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            more, thing = made.get()
            if more:
                yield thing  # type: ignore[misc]
            elif isinstance(thing, BaseException):
                raise thing
            else:
                return
    finally:
        stopped.set()
        thread.join()
