"""The instructions that this processor has, and those that our own kernels may use.

The environment variable `REGALLERY_MAX_CPU_ISA` limits the instructions, so that one machine can
show the speed of another: `avx2`, `avx512` (without VNNI), `vnni` (AVX-512 with VNNI, without AMX)
or `all`, the default. No result depends on it.
"""

import os
import platform
import sys
from functools import cache
from typing import Any

from pipeline.errors import InputError

VARIABLE = "REGALLERY_MAX_CPU_ISA"

_LEVELS = ("avx2", "avx512", "vnni", "all")
# LLVM's names of processors that have nothing beyond each level.
_NAMES = {"avx2": "haswell", "avx512": "skylake-avx512", "vnni": "cascadelake"}
# The LLVM features beyond each level, by the first letters of their names.
_VECTORS, _BYTES = ("avx10", "avx512", "evex512"), ("avxvnni", "avx512vnni")
_BEYOND = {"avx2": ("amx", *_BYTES, *_VECTORS), "avx512": ("amx", *_BYTES), "vnni": ("amx",)}


def most() -> str:
    """The level that the environment variable allows.

    Raise InputError if its value is not a level.
    """
    level = os.environ.get(VARIABLE) or "all"
    if level not in _LEVELS:
        raise InputError(f"{VARIABLE} must be avx2, avx512, vnni or all, not {level!r}")
    return level


@cache
def has_byte_products() -> bool:
    """Whether the processor has instructions that multiply bytes and add in 32 bits, and torch uses
    them.
    """
    return most() in ("vnni", "all") and _has("avx512_vnni", "avx_vnni", "amx_int8")


@cache
def has_vnni() -> bool:
    """Whether the processor multiplies two vectors of 64 bytes, and adds products in 32 bits."""
    return most() in ("vnni", "all") and _has("avx512_vnni")


@cache
def has_amx() -> bool:
    """Whether the processor multiplies matrices of bytes, and the system lets this process do it.

    This asks the system: it lets only processes that have asked use matrices.
    """
    if most() != "all" or not _has("amx_int8"):
        return False
    import torch  # as in `_has`

    allowed: Any = getattr(torch.cpu, "_init_amx", bool)
    return bool(allowed())


@cache
def has_avx512() -> bool:
    """Whether the processor compares vectors of 64 bytes, and may use that."""
    return most() != "avx2" and _has("avx512_bw")


@cache
def has_avx2() -> bool:
    """Whether the processor multiplies vectors of 32 bytes in pairs, and adds in 16 bits."""
    return _has("avx2")


@cache
def has_arm_dots() -> bool:
    """Whether this is a 64-bit Arm processor that adds products of bytes in 32 bits (`sdot`), and
    LLVM knows it; otherwise compiling such an instruction would end the process.
    """
    if most() != "all" or platform.machine() not in ("aarch64", "arm64"):
        return False
    from llvmlite.binding import get_host_cpu_features  # slow to load, as torch is

    return bool(get_host_cpu_features().get("dotprod"))


def restrict_numba() -> None:
    """Limit the code that numba compiles to the level. Call it before numba compiles anything.

    It sets the environment variables that numba reads when it is imported, so that a command which
    compiles nothing does not wait for numba. Processes that this one starts inherit them.
    """
    level = most()
    if level == "all":
        return
    from llvmlite.binding import get_host_cpu_features

    features = get_host_cpu_features()
    if not features.get("avx2"):
        return
    for name in features:
        if name.startswith(_BEYOND[level]):
            features[name] = False
    name, flags = _NAMES[level], features.flatten()
    os.environ["NUMBA_CPU_NAME"], os.environ["NUMBA_CPU_FEATURES"] = name, flags
    loaded: Any = sys.modules.get("numba.core.config")
    if loaded is not None:  # it has read its variables already
        loaded.CPU_NAME, loaded.CPU_FEATURES = name, flags


def _has(*names: str) -> bool:
    import torch  # slow to load, and most importers of this package do not need it

    # torch reports the processor's own features, even if its kernels are limited.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in names)
