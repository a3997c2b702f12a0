"""The files of a neighbor graph: one file of neighbors for each block of rows."""

import hashlib
import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.gallery import checksums
from pipeline.gallery.files.places import GalleryPlace, parquet
from pipeline.gallery.files.storage import GalleryDamagedError

_log = logging.getLogger(__name__)


MET = b"met"
"""The key, in the metadata of a file, of the blocks that its block has met."""


def name_of_blocks(met: int) -> str:
    """The part of a file's name that stands for a set of blocks."""
    return hashlib.blake2b(f"{met:x}".encode(), digest_size=8).hexdigest()


def blocks_met(path: GalleryPlace) -> int:
    """The blocks that the block of a file has met; 0 if the file is damaged."""
    if not is_whole(path):
        return 0
    met = int((pq.read_schema(parquet(path)).metadata or {}).get(MET, b"0"), 16)
    # Files of version 0.2.0 have other names, and do not say what they have met.
    return met if path.stem.endswith(name_of_blocks(met)) else 0


def is_whole(path: GalleryPlace) -> bool:
    """Whether a file is as it was written; a warning names a damaged one."""
    try:
        checksums.check_unchanged(path)
    except GalleryDamagedError as error:
        _log.warning("a block of a neighbor graph is made again: %s", error)
        return False
    return True


def content_of(*columns: NDArray[np.int64]) -> str:
    """A hash of columns of row ids and signatures."""
    digest = hashlib.blake2b(digest_size=16)
    for column in columns:
        digest.update(np.ascontiguousarray(column, "<i8").data)
    return digest.hexdigest()


def binary_column(values: NDArray[np.generic], dtype: str) -> pa.FixedSizeBinaryArray:
    """A matrix `[N, k]` as a column of little-endian bytes."""
    stored = np.ascontiguousarray(values, dtype)
    kind = pa.binary(stored.shape[1] * stored.itemsize)
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(stored), [None, pa.py_buffer(stored)])


def read_columns(path: GalleryPlace, columns: list[str], rows: int = 0) -> pa.Table:
    """Some columns of a file that must hold at least this many rows."""
    checksums.check_unchanged(path, "all of its folder: the neighbor graph is made again")
    try:
        table = pq.ParquetFile(parquet(path), page_checksum_verification=True).read(columns=columns)
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise GalleryDamagedError(
            f"{path}: this part of a neighbor graph cannot be read ({error}); delete its folder,"
            " and it is made again"
        ) from error
    if table.num_rows < rows:
        raise GalleryDamagedError(f"{path}: {table.num_rows} rows, where {rows} were written")
    return table


def decode(
    path: GalleryPlace, k: int, low: int, high: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Neighbors and scores `[high - low, k]` of the rows `low` to `high` of a file."""
    table = read_columns(path, ["neighbors", "scores"], high)
    near, scores = (table[name].slice(low, high - low) for name in ("neighbors", "scores"))
    return matrix(near, k, "<i8"), matrix(scores, k, "<f4")


def matrix(column: pa.ChunkedArray, k: int, dtype: str) -> NDArray[Any]:
    """A column of little-endian bytes as a matrix `[N, k]`."""
    width = k * np.dtype(dtype).itemsize
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype, count=len(chunk) * k, offset=chunk.offset * width)
        for chunk in column.chunks
    ]
    return np.concatenate(parts).reshape(-1, k) if parts else np.empty((0, k), dtype)
