"""What is compiled once for all processes of a run: kernels, and pytest's form of the tests."""

import fcntl
import sys
from pathlib import Path
from typing import Any

import pytest
from _pytest.assertion import rewrite
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

TESTS = Path(__file__).parent
KERNELS = TESTS.parent / "pipeline"
_held: set[str] = set()


def compile_once() -> None:
    """Lock the source of a kernel against other processes while this one compiles it.

    The others wait. numba reads its cache within the lock, so they find the kernel there.
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


def rewrite_a_share(config: pytest.Config, process: int, processes: int) -> None:
    """Write every n-th module of tests to the cache as pytest wants it, before any is imported.

    Each process collects all tests, and would rewrite the assertions of all of them: half of the
    time until the first test runs.
    """
    if sys.dont_write_bytecode:
        return
    state = config.stash[rewrite.assertstate_key]
    for module in sorted(TESTS.rglob("test_*.py"))[process::processes]:
        cached = rewrite.get_cache_dir(module) / (module.stem + rewrite.PYC_TAIL)
        if rewrite._read_pyc(module, cached) is None:
            cached.parent.mkdir(exist_ok=True)
            hashed, code = rewrite._rewrite_test(module, config)
            rewrite._write_pyc(state, code, hashed, cached)
