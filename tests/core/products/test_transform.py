import numpy as np
import pytest
from scipy.linalg import hadamard

from pipeline.core.products.transform import transform


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 64, 512, 2048])
def test_the_transform_is_the_product_with_the_matrix(size):
    values = np.random.default_rng(size).standard_normal(size)
    expected = hadamard(size) @ values / np.sqrt(size)
    transform(values)
    np.testing.assert_allclose(values, expected, atol=1e-12)
