import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import binding, ir
from numba import njit

from pipeline.core.processor import has_amx, has_arm_dots, has_avx2, has_vnni
from pipeline.core.products import amx_products, arm_products, byte_products, vnni_products
from pipeline.core.products.byte_products import LONGEST_CODES, PANEL, pack

HAVE = {
    amx_products: has_amx,
    vnni_products: has_vnni,
    byte_products: has_avx2,
    arm_products: has_arm_dots,
}


def of_this_processor(kernels):
    if not HAVE[kernels]():
        pytest.skip("this processor has no such instructions")
    return kernels


def plain_dots(builder, sums, row, columns):
    """What Arm's `sdot` does, in instructions that every processor has."""
    wide = ir.VectorType(ir.IntType(32), 16)
    products = builder.mul(builder.sext(row, wide), builder.sext(columns, wide))
    nothing = ir.Constant(wide, ir.Undefined)
    for place in range(4):
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), 4), list(range(place, 16, 4)))
        sums = builder.add(sums, builder.shuffle_vector(products, nothing, lanes))
    return sums


def emulated():
    """The loop for Arm with `plain_dots`."""
    multiply = njit(arm_products.multiply.py_func)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arm_products, "_added", plain_dots)
        kernels = SimpleNamespace(LARGEST=arm_products.LARGEST, OFFSET=0, multiply=multiply)
        product(kernels, *np.ones((2, 1, 8), np.int8))  # compiles while the function is in place
    return kernels


@pytest.fixture(
    params=[*HAVE, "emulated"], ids=["AMX", "VNNI", "AVX2", "Arm", "emulated-Arm"], scope="module"
)
def kernels(request):
    return emulated() if request.param == "emulated" else of_this_processor(request.param)


@pytest.fixture(params=[vnni_products, byte_products], ids=["VNNI", "AVX2"], scope="module")
def word_kernels(request):
    return of_this_processor(request.param)


def product(kernels, a, b):
    """The product by `multiply`, which leaves all beyond the room of its matrix alone."""
    panels = []
    for codes in (a, b):
        flat = np.full(-(-len(codes) // PANEL) * PANEL * a.shape[1], 99, np.int8)
        pack(codes, flat)
        panels.append(flat)
    begun = np.zeros(len(panels[1]) // a.shape[1], np.int32)
    begun[: len(b)] = -kernels.OFFSET * b.sum(axis=1, dtype=np.int32)
    values, spill = len(a) * len(b), 4 * len(b) + PANEL
    out = np.full(values + spill + 1, 7, np.int32)
    raised = np.empty(len(panels[0]), np.uint8)
    kernels.multiply(*panels, begun, a.shape[1], len(a), len(b), raised, out)
    assert out[-1] == 7
    return out[:values].reshape(len(a), len(b))


@given(
    st.integers(1, 70), st.integers(1, 140), st.sampled_from([8, 16, 64, 520]), st.integers(0, 99)
)
def test_products_are_exact(kernels, n, m, width, seed):
    rng, largest = np.random.default_rng(seed), kernels.LARGEST
    step = amx_products.STEP if kernels is amx_products else byte_products.STEP
    width = -(-width // step) * step
    a, b = (rng.integers(-largest, largest + 1, (rows, width)).astype(np.int8) for rows in (n, m))
    # What is largest of all, in sum as in difference.
    a[rng.random(n) < 0.3] = largest
    b[rng.random(m) < 0.3] = largest
    b[rng.random(m) < 0.3] = -largest
    assert (product(kernels, a, b) == a.astype(np.int64) @ b.astype(np.int64).T).all()


@pytest.mark.skipif(not has_avx2(), reason="needs AVX2")
def test_codes_larger_by_one_would_saturate():
    largest = byte_products.LARGEST
    one = np.full((1, 8), largest + 1, np.int8)
    assert product(byte_products, one, one) != 8 * (largest + 1) ** 2
    assert product(byte_products, one - np.int8(1), one) == 8 * largest * (largest + 1)


def loop_for_arm():
    """The loop for Arm, as LLVM's target and module for a processor that has its instructions."""
    long = ir.IntType(64)
    module = ir.Module("products")
    module.triple = "aarch64-linux-gnu"
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [long] * 5), "block")
    builder = ir.IRBuilder(function.append_basic_block())
    arm_products._write(builder, *function.args)
    builder.ret_void()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(module.triple).create_target_machine(
        features="+neon,+dotprod", opt=3
    )
    parsed = binding.parse_assembly(str(module))
    passes = binding.create_pass_builder(
        target, binding.create_pipeline_tuning_options(speed_level=3)
    )
    passes.getModulePassManager().run(parsed, passes)
    return target, parsed


def test_the_loop_for_arm_keeps_its_sums_in_registers():
    target, module = loop_for_arm()
    blocks = re.split(r"^(?:\.L)?\w+:.*$", target.emit_assembly(module), flags=re.MULTILINE)
    (loop,) = (each for each in blocks if "sdot" in each)
    assert loop.count("sdot") == 16
    assert not re.search(r"\bst[rp]\b", loop)


HARNESS = """
#include <stdint.h>
#include <stdio.h>
static int8_t rows[1 << 16], codes[1 << 16];
static int32_t out[4 * 20];
void block(int64_t, int64_t, int64_t, int64_t, int64_t);
int main(void) {
  int64_t groups;
  while (fread(&groups, 8, 1, stdin) == 1) {
    if (fread(rows, 64, groups, stdin) + fread(codes, 64, groups, stdin) != 2 * groups) return 1;
    block((int64_t)rows, (int64_t)codes, groups, (int64_t)out, 20);
    fwrite(out, 4, 80, stdout);
  }
  return 0;
}
"""


@pytest.mark.skipif(
    not all(map(shutil.which, ("qemu-aarch64", "aarch64-linux-gnu-gcc"))),
    reason="needs qemu-user and gcc-aarch64-linux-gnu",
)
def test_an_emulated_processor_multiplies_exactly(tmp_path):
    """The machine code itself; loops around it are those that `emulated` runs."""
    target, module = loop_for_arm()
    (tmp_path / "block.o").write_bytes(target.emit_object(module))
    (tmp_path / "main.c").write_text(HARNESS)
    files = [str(tmp_path / name) for name in ("main.c", "block.o")]
    program = str(tmp_path / "program")
    subprocess.run(["aarch64-linux-gnu-gcc", "-static", *files, "-o", program], check=True)
    rng, asked, expected = np.random.default_rng(0), b"", []
    for groups in (1, 2, 16, 130):
        a, b = rng.integers(-127, 128, (2, groups, 16, 4)).astype(np.int8)
        a[:, :2], b[:, :4] = 127, -127
        asked += np.int64(groups).tobytes() + a.tobytes() + b.tobytes()
        values = np.zeros((4, 20), np.int32)
        values[:, :16] = np.einsum("grk,gck->rc", a[:, :4].astype(int), b.astype(int))
        expected.append(values)
    run = subprocess.run(
        ["qemu-aarch64", program], input=asked, capture_output=True, check=True, timeout=60
    )
    assert run.stdout == np.stack(expected).tobytes()


@given(
    st.integers(1, 40), st.integers(1, 140), st.sampled_from([4, 8, 32, 260]), st.integers(0, 99)
)
def test_products_of_words_are_exact(word_kernels, n, m, width, seed):
    rng = np.random.default_rng(seed)
    sides, panels = [], []
    for rows in (n, m):
        codes = rng.standard_normal((rows, width))
        codes[rng.random(rows) < 0.3] = np.eye(1, width, width - 1)  # the largest code of all
        codes *= LONGEST_CODES / np.linalg.norm(codes, axis=1, keepdims=True)
        codes[rng.random(rows) < 0.5] *= -1
        sides.append(codes.astype(np.int16))
        assert (sides[-1] == codes.astype(int)).all()
        panels.append(np.full(-(-rows // PANEL) * PANEL * 2 * width, 99, np.int8))
        pack(sides[-1].view(np.int8), panels[-1])
    out = np.full(n * m + 4 * m + PANEL + 1, 7, np.int32)
    word_kernels.multiply_words(*panels, 2 * width, n, m, out)
    assert out[-1] == 7
    expected = sides[0].astype(np.int64) @ sides[1].astype(np.int64).T
    assert (out[: n * m].reshape(n, m) == expected).all()


# A page that nobody may read begins where both sides end.
AT_A_BARRIER = """
import ctypes, mmap
import numpy as np
from pipeline.core.processor import has_amx
from pipeline.core.products import amx_products

assert has_amx()

def at_barrier(codes):
    pages = -(-len(codes) // mmap.PAGESIZE) + 1
    memory = mmap.mmap(-1, pages * mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.int8)
    last = whole.ctypes.data + (pages - 1) * mmap.PAGESIZE
    held = whole[(pages - 1) * mmap.PAGESIZE - len(codes) : (pages - 1) * mmap.PAGESIZE]
    held[:] = codes
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(last), mmap.PAGESIZE, 0) == 0
    return held

for rows in (1, 16, 17, 32, 33, 48):
    for columns in (1, 16, 17, 32, 33, 48):
        sides = [at_barrier(np.ones(-(-n // 16) * 16 * 64, np.int8)) for n in (rows, columns)]
        tiles = at_barrier(np.zeros(len(sides[0]), np.int8)).view(np.uint8)
        out = at_barrier(np.zeros(4 * rows * columns, np.int8)).view(np.int32)
        amx_products.multiply(*sides, np.empty(0, np.int32), 64, rows, columns, tiles, out)
        assert (out == 64).all()
print("whole")
"""


@pytest.mark.skipif(not has_amx(), reason="needs AMX")
def test_matrices_are_not_read_beyond_their_ends():
    run = subprocess.run(
        [sys.executable, "-c", AT_A_BARRIER], capture_output=True, text=True, check=False
    )
    assert run.stdout.split() == ["whole"], run.stderr
