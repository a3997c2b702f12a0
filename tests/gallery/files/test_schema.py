"""Features as a column and back."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.gallery.files.schema import (
    SCALAR_COLUMNS,
    check_unit_length,
    encode_features,
    row_schema,
    stored_values,
)
from pipeline.gallery.files.storage import GalleryDamagedError
from tests.gallery.making import unit_vectors


def decode(column, dimension, dtype, *, file):
    found = stored_values(column, dimension, dtype, file).astype(np.float32)
    check_unit_length(found, dtype, file)
    return found


def test_columns_in_the_order_of_the_design():
    labels = ["identity", "camera", "captured_at", "frame"]
    source = ["size", "mtime", "content_hash"]
    crop = ["height", "width", "quality"]
    others = ["tracklet", "captured_until", "boxes", "origin", "origin_row"]
    assert list(SCALAR_COLUMNS) == ["row_id", "path", *labels, *source, *crop, *others]
    assert row_schema(8, "float16").names == [*SCALAR_COLUMNS, "feature"]
    assert row_schema(8, "float16").field("feature").type == pa.binary(16)


@given(rows=st.integers(0, 40), dimension=st.integers(1, 70))
def test_float32_comes_back_to_the_bit(rows, dimension):
    features = unit_vectors(range(rows), dimension)
    column = encode_features(features)
    assert decode(column, dimension, "float32", file="f").tobytes() == features.tobytes()


def test_float32_is_stored_little_endian():
    stored = encode_features(np.array([[1.0, 0.0]], dtype=np.float32))[0].as_py()
    assert stored == bytes.fromhex("0000803f00000000")


@pytest.mark.parametrize("dimension", [1, 16, 512, 2048])
def test_float16_is_renormalized(dimension):
    features = unit_vectors(range(50), dimension)
    halves = features.astype(np.float16).astype(np.float32)
    assert dimension == 1 or np.abs(np.linalg.norm(halves, axis=1) - 1).max() > 2e-6
    column = encode_features(features, "float16")
    found = decode(column, dimension, "float16", file="f")
    assert np.abs(np.linalg.norm(found.astype(np.float64), axis=1) - 1).max() < 1e-6
    np.testing.assert_allclose(found, features, atol=1e-3)


@given(start=st.integers(0, 30), size=st.integers(1, 31), dimension=st.integers(1, 600))
def test_float16_bits_of_a_row_do_not_depend_on_its_block(start, size, dimension):
    column = encode_features(unit_vectors(range(61), dimension), "float16")
    whole = decode(column, dimension, "float16", file="f")
    part = decode(column.slice(start, size), dimension, "float16", file="f")
    assert part.tobytes() == whole[start : start + size].tobytes()


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_binary_of_other_tools_is_read(kind):
    features = unit_vectors(range(9))
    column = encode_features(features).cast(pa.binary()).cast(kind).slice(2, 5)
    assert decode(column, 8, "float32", file="f").tobytes() == features[2:7].tobytes()


@pytest.mark.parametrize("value", [0.0, 0.9, np.nan, np.inf, 3e38])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_feature_that_is_not_of_unit_length_is_damage(value, dtype):
    features = unit_vectors(range(5)).astype("<f2" if dtype == "float16" else "<f4")
    with np.errstate(over="ignore"):
        features[3] = value
    width = features.itemsize * 8
    buffers = [None, pa.py_buffer(features)]
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), 5, buffers)
    with pytest.raises(GalleryDamagedError, match=r"here\.parquet.*norm"):
        decode(column, 8, dtype, file="here.parquet")


def test_the_wrong_width_is_damage():
    column = encode_features(unit_vectors(range(3)))
    for wrong in (column, column.cast(pa.binary())):
        with pytest.raises(GalleryDamagedError, match=r"here: a feature of 32 bytes .* has 36"):
            decode(wrong, 9, "float32", file="here")


def test_a_null_feature_is_damage():
    column = pa.array([None], pa.binary(32))
    with pytest.raises(GalleryDamagedError, match=r"here.* nulls"):
        decode(column, 8, "float32", file="here")


@pytest.mark.parametrize("value", [0.0, 0.99, np.nan, np.inf])
def test_only_unit_vectors_are_stored(value):
    features = unit_vectors(range(5))
    features[2] = value
    with pytest.raises(InputError, match="feature 2 of 5 has norm"):
        encode_features(features)


def test_features_must_be_a_matrix():
    with pytest.raises(InputError, match=r"shape \[8\]"):
        encode_features(np.ones(8, dtype=np.float32))


def test_unknown_storage_and_dimension():
    with pytest.raises(InputError, match=r"bfloat16.*float32, float16"):
        row_schema(8, "bfloat16")
    for dimension in (0, 65_537):
        with pytest.raises(InputError, match=f"{dimension} numbers"):
            row_schema(dimension)
