"""Whether a limit on the address space (`ulimit -v`) leaves room for the libraries.

If it does not, threads cannot start, and allocations fail inside libraries, which then end the
process or wait forever. So the limit is checked before they are loaded.
"""

import importlib.util
import os
import resource
from pathlib import Path

from pipeline.errors import InputError

_GIB = 2**30
_ROOM = 2 * _GIB
"""What the other libraries and small galleries take, with some to spare."""
_A_CPU = 2 * _GIB // 5
"""What the threads of one CPU reserve: several libraries start one, each with its own heap."""


def check_address_space() -> None:
    """Raise InputError if the limit is below the address space that a verb needs."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    needed = needed_address_space()
    if limit < needed:
        raise InputError(
            f"the address space is limited to {limit / _GIB:.1f} GiB (ulimit -v), and at least "
            f"{needed / _GIB:.1f} GiB are needed on this machine, most of it reserved and never "
            "used: raise that limit, or use a control group to limit memory"
        )


def needed_address_space() -> int:
    """The bytes of address space that a verb needs here, with a small gallery."""
    cpus = len(os.sched_getaffinity(0))
    return sum(map(_library_bytes, ("torch", "nvidia"))) + _ROOM + cpus * _A_CPU


def _library_bytes(package: str) -> int:
    """The size of a package's shared libraries, which are mapped whole; it is not imported."""
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations if found else None
    files = (each for folder in folders or () for each in Path(folder).rglob("*.so*"))
    return sum(each.stat().st_size for each in files if each.is_file())
