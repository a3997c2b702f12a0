import os
import subprocess
import sys

import pytest
import torch

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


def compiled(level):
    environment = os.environ | {processor.VARIABLE: level}
    run = subprocess.run(
        [sys.executable, "-c", LOOP], env=environment, capture_output=True, text=True, check=False
    )
    return run.stdout.split(), run.stderr


@pytest.mark.skipif(not processor.has_avx2(), reason="needs AVX2")
def test_what_is_compiled_is_held_to_the_level():
    assert compiled("avx2")[0] == ["False", "True", "64.0"]


def test_a_level_that_is_none_is_refused(monkeypatch):
    assert "REGALLERY_MAX_CPU_ISA must be avx2, avx512 or all, not 'sse'" in compiled("sse")[1]
    monkeypatch.setenv(processor.VARIABLE, "sse")
    with pytest.raises(InputError, match="must be avx2"):
        processor.most()


@pytest.mark.parametrize(
    ("capabilities", "level", "byte_products", "vnni", "avx2"),
    [
        ({"avx_vnni": True, "avx2": True}, "all", True, False, True),
        ({"avx512_vnni": True, "avx2": True}, "all", True, True, True),
        ({"avx512_vnni": True, "amx_int8": True, "avx2": True}, "all", True, False, True),
        ({"avx512_vnni": True, "avx2": True}, "avx512", False, False, True),
        ({"amx_int8": True, "avx2": True}, "avx2", False, False, True),
        ({"avx512_vnni": False, "avx2": True}, "", False, False, True),
        ({}, "avx2", False, False, False),
    ],
)
def test_the_instructions_are_asked_for(
    capabilities, level, byte_products, vnni, avx2, monkeypatch
):
    monkeypatch.setenv(processor.VARIABLE, level)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert processor.has_byte_products.__wrapped__() == byte_products
    assert processor.has_vnni.__wrapped__() == vnni
    assert processor.has_avx2.__wrapped__() == avx2
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not processor.has_byte_products.__wrapped__()
    assert not processor.has_avx2.__wrapped__()
