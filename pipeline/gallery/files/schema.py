"""The columns of a gallery, and the conversion of a block of features to a column and back."""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core.vectors import off_unit
from pipeline.errors import InputError
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.schemas import TIMESTAMP

DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
MAX_DIMENSION = 65_536
CONTENT_HASH_BYTES = 16

SCALAR_FIELDS = (
    pa.field("row_id", pa.int64(), nullable=False),
    pa.field("path", pa.string(), nullable=False),
    pa.field("identity", pa.int64()),
    pa.field("camera", pa.string()),
    pa.field("captured_at", TIMESTAMP),
    pa.field("frame", pa.int64()),
    pa.field("size", pa.int64()),
    pa.field("mtime", TIMESTAMP),
    pa.field("content_hash", pa.binary(CONTENT_HASH_BYTES)),
    pa.field("height", pa.int32()),
    pa.field("width", pa.int32()),
    pa.field("quality", pa.float32()),
    pa.field("tracklet", pa.string()),
    pa.field("captured_until", TIMESTAMP),
    pa.field("boxes", pa.int32()),
    pa.field("origin", pa.string()),
    pa.field("origin_row", pa.int64()),
)
SCALAR_COLUMNS = tuple(field.name for field in SCALAR_FIELDS)
ADDED_COLUMNS = ("tracklet", "captured_until", "boxes", "origin", "origin_row")
"""Columns that files of earlier versions of this tool lack; they are null there."""
STATISTICS_COLUMNS = ("row_id", "camera", "captured_at")


def check_form(dimension: int, dtype: str) -> None:
    """Raise `InputError` unless features of this dimension and storage dtype can be stored."""
    if dtype not in DTYPES:
        raise InputError(f"storage {dtype!r} is unknown: choose one of {', '.join(DTYPES)}")
    if not 1 <= dimension <= MAX_DIMENSION:
        raise InputError(f"a feature of {dimension} numbers: 1 to {MAX_DIMENSION} can be kept")


def feature_bytes(dimension: int, dtype: str) -> int:
    """Bytes of one stored feature.

    >>> feature_bytes(512, "float16")
    1024
    """
    return dimension * DTYPES[dtype].itemsize


def row_schema(dimension: int, dtype: str = "float32") -> pa.Schema:
    """The Arrow schema of a unit's rows: `SCALAR_FIELDS`, then `feature` as fixed-size binary.

    >>> row_schema(4).field("feature").type
    FixedSizeBinaryType(fixed_size_binary[16])
    """
    check_form(dimension, dtype)
    feature = pa.field("feature", pa.binary(feature_bytes(dimension, dtype)), nullable=False)
    return pa.schema([*SCALAR_FIELDS, feature])


def is_row_schema(found: pa.Schema, wanted: pa.Schema) -> bool:
    """Whether a file has the columns `wanted`; some of `ADDED_COLUMNS` may be missing.

    >>> older = pa.schema([field for field in row_schema(4) if field.name != "tracklet"])
    >>> is_row_schema(older, row_schema(4)), is_row_schema(row_schema(8), row_schema(4))
    (True, False)
    """
    expected = [f for f in wanted if f.name in found.names or f.name not in ADDED_COLUMNS]
    return bool(found.equals(pa.schema(expected)))


def content_hash(data: bytes) -> bytes:
    """The 16-byte BLAKE2b hash of an image file's bytes, which detects a changed file.

    >>> content_hash(b"").hex()
    'cae66941d9efbd404e4d88758ea67670'
    """
    return hashlib.blake2b(data, digest_size=CONTENT_HASH_BYTES).digest()


def encode_features(features: np.ndarray, dtype: str = "float32") -> pa.FixedSizeBinaryArray:
    """Unit-length features float32 `[N, D]` as the stored column, little-endian `dtype`.

    Raise `InputError` for a wrong shape, a number that is not finite, or a row that is not of unit
    length (within 0.001).

    >>> encode_features(np.eye(2, dtype=np.float32)).type
    FixedSizeBinaryType(fixed_size_binary[8])
    """
    if features.ndim != 2:
        raise InputError(f"features of shape {list(features.shape)}: [rows, dimension] expected")
    count, dimension = features.shape
    check_form(dimension, dtype)
    exact = np.asarray(features, dtype=np.float32)
    wrong = off_unit(exact)
    if len(wrong):
        raise InputError(
            f"feature {wrong[0]} of {count} has norm {_norm(exact[wrong[0]]):.4g}: "
            "features are stored at unit length"
        )
    stored = np.ascontiguousarray(exact, dtype=DTYPES[dtype])
    buffers = [None, pa.py_buffer(stored)]
    kind = pa.binary(feature_bytes(dimension, dtype))
    return pa.FixedSizeBinaryArray.from_buffers(kind, count, buffers)


def check_unit_length(out: np.ndarray, dtype: str, file: str) -> None:
    """Check features float32 `[N, D]` that were read; renormalize in place those stored as float16,
    since rounding changes their length.

    Raise `GalleryDamagedError` naming `file` for a norm that is not 1 (within 0.001).
    """
    wrong = off_unit(out)
    if len(wrong):
        raise GalleryDamagedError(
            f"{file}: a feature has norm {_norm(out[wrong[0]]):.4g} where 1 was written: "
            "the file is damaged; restore it or extract its images again"
        )
    if dtype == "float16":
        out /= np.sqrt(np.einsum("ij,ij->i", out, out))[:, None]


def stored_values(column: pa.Array, dimension: int, dtype: str, file: str) -> np.ndarray:
    """The column's numbers `[N, D]` in their stored dtype, without a copy.

    Variable-length binary, which other tools write, is read too. Raise `GalleryDamagedError` naming
    `file` for a null or a value of the wrong length.
    """
    width = feature_bytes(dimension, dtype)
    if column.null_count:
        raise GalleryDamagedError(f"{file}: the feature column has {column.null_count} nulls")
    if pa.types.is_fixed_size_binary(column.type):
        if column.type.byte_width != width:
            raise _wrong_width(file, column.type.byte_width, width)
        start, data = column.offset * width, column.buffers()[1]
    else:
        column = column.cast(pa.large_binary())
        offsets = np.frombuffer(column.buffers()[1], dtype=np.int64)[column.offset :]
        offsets = offsets[: len(column) + 1]
        lengths = np.diff(offsets)
        if (lengths != width).any():
            raise _wrong_width(file, int(lengths[lengths != width][0]), width)
        start, data = int(offsets[0]), column.buffers()[2]
    values = np.frombuffer(data, dtype=DTYPES[dtype], count=len(column) * dimension, offset=start)
    return values.reshape(len(column), dimension)


def _wrong_width(file: str, found: int, expected: int) -> GalleryDamagedError:
    return GalleryDamagedError(
        f"{file}: a feature of {found} bytes where the gallery has {expected}"
    )


def _norm(feature: np.ndarray) -> float:
    """The length of one feature `[D]`, without overflow."""
    with np.errstate(invalid="ignore"):  # damaged bytes may be a signaling NaN
        return float(np.linalg.norm(feature.astype(np.float64)))
