import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.gallery.formats.features import MatrixFeatures, import_rows
from pipeline.gallery.opening import lock_gallery
from tests.gallery.making import new_gallery


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_blocks_of_any_float_are_copied(dtype):
    matrix = np.arange(12).reshape(4, 3).astype(dtype)
    features = MatrixFeatures(matrix, "x.npy")
    assert (len(features), features.dimension) == (4, 3)
    block = features.read(1, 3)
    block[:] = 0
    assert np.array_equal(matrix, np.arange(12).reshape(4, 3))


@pytest.mark.parametrize(
    "matrix", [np.zeros((3, 3), int), np.zeros(3), np.zeros((0, 3)), np.zeros((3, 0))]
)
def test_other_arrays_are_named(matrix):
    with pytest.raises(InputError, match=r"x\.npy holds .* features are floats \[N, D\]"):
        MatrixFeatures(matrix, "x.npy")


def test_labels_must_go_with_the_features(tmp_path):
    gallery = new_gallery(tmp_path / "g")
    features = MatrixFeatures(np.ones((3, 8)), "x.npy")
    with (
        lock_gallery(gallery.location, "import") as lock,
        pytest.raises(ValueError, match="3 features do not go with 2 rows"),
    ):
        import_rows(gallery, features, pa.table({"path": ["a", "b"]}), lock)
