"""What instructions this processor has, and which of them our own kernels may use.

The environment variable `REGALLERY_MAX_CPU_ISA` holds them back, so that one machine shows what
another will do: `avx2`, `avx512` (without VNNI) or `all`, the default. No result depends on it.
"""

import os
from functools import cache
from typing import Any

from pipeline.errors import InputError

VARIABLE = "REGALLERY_MAX_CPU_ISA"

_LEVELS = ("avx2", "avx512", "all")
# What LLVM takes for a processor that has nothing beyond a level.
_NAMES = {"avx2": "haswell", "avx512": "skylake-avx512"}
# The features that are beyond a level, by how LLVM's names of them begin.
_VECTORS = ("avx10", "avx512", "evex512")
_BYTES = ("amx", "avxvnni", "avx512vnni")


def most() -> str:
    """The level that the environment holds kernels to.

    InputError where it is none.
    """
    level = os.environ.get(VARIABLE) or "all"
    if level not in _LEVELS:
        raise InputError(f"{VARIABLE} must be avx2, avx512 or all, not {level!r}")
    return level


@cache
def has_byte_products() -> bool:
    """Whether there are instructions that multiply bytes and add up in 32 bits, and torch uses
    them."""
    return most() == "all" and _has("avx512_vnni", "avx_vnni", "amx_int8")


@cache
def has_vnni() -> bool:
    """Whether there are vectors of 64 bytes that are multiplied and added up in 32 bits, and no
    matrices that torch multiplies faster."""
    return most() == "all" and _has("avx512_vnni") and not _has("amx_int8")


@cache
def has_avx2() -> bool:
    """Whether there are vectors of 32 bytes that are multiplied in pairs, and added in 16 bits."""
    return _has("avx2")


def restrict_numba() -> None:
    """Hold what numba compiles to the level. It must be called before it compiles anything."""
    level = most()
    if level == "all" or not has_avx2():
        return
    from llvmlite.binding import get_host_cpu_features
    from numba.core import config

    beyond = _BYTES if level == "avx512" else _BYTES + _VECTORS
    features = get_host_cpu_features()
    for name in features:
        if name.startswith(beyond):
            features[name] = False
    settings: Any = config
    settings.CPU_NAME, settings.CPU_FEATURES = _NAMES[level], features.flatten()


def _has(*names: str) -> bool:
    import torch  # slow to load, and most of what imports this package asks nothing

    # torch tells this of the processor, whatever its own kernels are held to.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in names)
