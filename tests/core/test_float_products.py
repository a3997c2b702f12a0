import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.core import float_products
from pipeline.core.float_products import Product, as_tensor
from pipeline.core.products.kernels import product_slack
from tests.core.strategies import unit_rows

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("by_onednn", [True, False])
@pytest.mark.parametrize(("n", "m", "d"), [(3, 4, 5), (1, 1, 1), (70, 1, 513), (65, 33, 2048)])
def test_a_product_is_the_tile_of_dot_products(n, m, d, by_onednn, monkeypatch):
    monkeypatch.setattr(float_products, "onednn", lambda: by_onednn)
    a, b = unit_rows(n, d), unit_rows(m, d, seed=1)
    b.flags.writeable = False
    exact = a.astype(np.float64) @ b.T.astype(np.float64)
    assert np.abs(Product()(a, b) - exact).max() <= product_slack(d, 1, 1) / 2


@pytest.mark.filterwarnings("error")
def test_a_tensor_of_read_only_rows_copies_nothing_and_keeps_them():
    rows = unit_rows(1000, 64)
    expected, address = rows.copy(), rows.ctypes.data
    rows.flags.writeable = False
    tensor = as_tensor(rows[10:])
    del rows
    _ = [np.full((1000, 64), np.nan, np.float32) for _ in range(4)]  # what is free would be used
    assert tensor.data_ptr() == address + 10 * 64 * 4
    np.testing.assert_array_equal(tensor.numpy(), expected[10:])


LATE = """
import sys
import numpy as np
from pipeline.core import float_products
from pipeline.core.blocks import Tiling, blocks

product, rows = float_products.Product(), np.eye(8, dtype=np.float32)
threads = set()

def work(start, stop):
    assert (product(rows[start:stop], rows) == rows[start:stop]).all()
    if "torch" in sys.modules:
        threads.add(sys.modules["torch"].get_num_threads())

with Tiling(threads=1).workers() as run:
    run(work, blocks(8, 4))
    assert "torch" not in sys.modules
    float_products._QUICK = 100
    run(work, blocks(8, 1))
assert threads == {1}, threads
"""


def test_torch_is_loaded_where_there_is_much_to_multiply_and_uses_one_thread_of_a_block():
    done = subprocess.run([sys.executable, "-c", LATE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
