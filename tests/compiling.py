"""Kernels are compiled once for all processes of a run: the others wait, and read numba's cache."""

import fcntl
from pathlib import Path
from typing import Any

from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

KERNELS = Path(__file__).parents[1] / "pipeline"
_held: set[str] = set()


def compile_once() -> None:
    """Lock the source of a kernel against other processes while this one compiles it.

    numba reads its cache within the lock, so whoever comes second finds the kernel there.
    """
    compile_now = Dispatcher.compile

    def compile_in_turn(self: Dispatcher, signature: Any) -> Any:
        source = self.py_func.__code__.co_filename
        # Threads take numba's own lock first, so none waits for a file that another one holds.
        with global_compiler_lock:
            if source in _held or not Path(source).is_relative_to(KERNELS):
                return compile_now(self, signature)
            _held.add(source)
            try:
                with Path(source).open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    return compile_now(self, signature)
            finally:
                _held.discard(source)

    Dispatcher.compile = compile_in_turn
