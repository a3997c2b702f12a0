import os
import platform
import subprocess
import sys

import pytest
import torch
from llvmlite import binding

from pipeline.core import processor
from pipeline.errors import InputError

# Compiles a loop over vectors, and tells whether it has vectors of 64 bytes and of 32.
LOOP = """
import numpy as np
from pipeline.core.products import kernels
from numba import njit

@njit
def total(values):
    found = 0
    for value in values:
        found += value
    return found

total(np.arange(9))
code = str(total.inspect_asm())
x, z = np.ones((2, 64), np.float32), np.zeros(1, np.int64)
print("zmm" in code, "ymm" in code, kernels.pair_scores(x, x, z, z)[0])
"""


def run(level, script):
    environment = os.environ | {processor.VARIABLE: level}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout.split(), done.stderr


def compiled(level, first="sys"):
    """The answers of `LOOP`, after an import of another module."""
    return run(level, f"import {first}\n{LOOP}")


@pytest.mark.parametrize("first", ["sys", "numba"])
@pytest.mark.skipif(not processor.has_avx2(), reason="needs AVX2")
def test_what_is_compiled_is_held_to_the_level(first):
    assert compiled("avx2", first)[0] == ["False", "True", "64.0"]


def test_a_level_leaves_what_others_told_numba():
    script = (
        "import numba; numba.config.CACHE_DIR = '/theirs'\n"
        "import pipeline.core; print(numba.config.CACHE_DIR)"
    )
    assert run("avx2", script)[0] == ["/theirs"]


@pytest.mark.parametrize("level", ["avx2", "all"])
def test_a_level_loads_neither_torch_nor_numba(level):
    script = "import pipeline.core, sys; print({'torch', 'numba'} & {*sys.modules})"
    assert run(level, script)[0] == ["set()"]


def test_a_level_that_is_none_is_refused(monkeypatch):
    assert (
        "REGALLERY_MAX_CPU_ISA must be avx2, avx512, vnni or all, not 'sse'" in compiled("sse")[1]
    )
    monkeypatch.setenv(processor.VARIABLE, "sse")
    with pytest.raises(InputError, match="must be avx2"):
        processor.most()


@pytest.mark.parametrize(
    ("capabilities", "level", "byte_products", "vnni", "amx"),
    [
        ({"avx_vnni": True, "avx2": True}, "all", True, False, False),
        ({"avx512_vnni": True, "avx2": True}, "all", True, True, False),
        ({"avx512_vnni": True, "amx_int8": True, "avx2": True}, "all", True, True, True),
        ({"avx512_vnni": True, "amx_int8": True, "avx2": True}, "vnni", True, True, False),
        ({"avx512_vnni": True, "avx2": True}, "avx512", False, False, False),
        ({"amx_int8": True, "avx2": True}, "avx2", False, False, False),
        ({"avx512_vnni": False, "avx2": True}, "", False, False, False),
        ({}, "avx2", False, False, False),
    ],
)
def test_the_instructions_are_asked_for(capabilities, level, byte_products, vnni, amx, monkeypatch):
    monkeypatch.setenv(processor.VARIABLE, level)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.cpu, "_init_amx", lambda: True, raising=False)
    assert processor.has_byte_products.__wrapped__() == byte_products
    assert processor.has_vnni.__wrapped__() == vnni
    assert processor.has_amx.__wrapped__() == amx
    assert processor.has_avx2.__wrapped__() == capabilities.get("avx2", False)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not processor.has_byte_products.__wrapped__()
    assert not processor.has_avx2.__wrapped__()


@pytest.mark.parametrize(
    ("machine", "level", "features", "has"),
    [
        ("aarch64", "all", {"dotprod": True}, True),
        ("arm64", "", {"dotprod": True}, True),
        ("aarch64", "all", {"neon": True}, False),
        ("aarch64", "avx2", {"dotprod": True}, False),
        ("x86_64", "all", {"dotprod": True}, False),
    ],
)
def test_arm_is_asked_for_its_dot_products(machine, level, features, has, monkeypatch):
    monkeypatch.setenv(processor.VARIABLE, level)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: features)
    assert processor.has_arm_dots.__wrapped__() == has


@pytest.mark.parametrize("allowed", [True, False, None])
def test_matrices_are_used_only_if_the_system_allows_them(allowed, monkeypatch):
    monkeypatch.setenv(processor.VARIABLE, "all")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_int8": True}, raising=False)
    monkeypatch.setattr(torch.cpu, "_init_amx", lambda: allowed, raising=False)
    if allowed is None:
        monkeypatch.delattr(torch.cpu, "_init_amx")
    assert processor.has_amx.__wrapped__() == bool(allowed)
