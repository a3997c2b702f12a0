"""The stored features of one file, by row.

Our own files store the features of a row group uncompressed, one after the other in one page. So
rows can be copied directly, even scattered ones. The page's checksum is verified at the first use
of a row group. A file of another form, from another tool, is read through Parquet, by whole groups.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib  # its CRC-32 is ten times as fast as zlib's

from pipeline.gallery.files.fetched_rows import FetchedRows, rows_taken
from pipeline.gallery.files.page_header import page_checksum
from pipeline.gallery.files.places import GalleryPlace, ObjectPlace
from pipeline.gallery.files.schema import DTYPES, check_unit_length, feature_bytes, stored_values
from pipeline.gallery.files.storage import GalleryDamagedError

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class _Group:
    """A row group: its rows and, if its features are plain in the file, their offset and checksum
    (CRC-32).
    """

    number: int
    begin: int
    count: int
    offset: int = 0
    checksum: int | None = None


class StoredRows:
    """The features of one file; verifies each row group once.

    All methods raise `GalleryDamagedError` naming the file.
    """

    def __init__(self, path: Path, dimension: int, dtype: str) -> None:
        self._path = path
        self._dimension = dimension
        self._dtype = dtype
        self._groups: list[_Group] | None = None
        self._verified: set[int] = set()

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """The features of the rows start to stop (exclusive), unit length, into float32 `[n, D]`.

        In addition to `out`, it uses memory for a chunk, or for a row group of a file of another
        tool.
        """
        for group, low, high in self._touched(start, stop):
            part = out[group.begin + low - start : group.begin + high - start]
            if group.checksum is None:
                part[:] = self._decoded(group)[low:high]
                check_unit_length(part, self._dtype, str(self._path))
            else:
                self._copy(group, low, high, part)

    def take(self, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """The features of rows int64 `[n]`, ascending, some at a time: which of the rows, and their
        values `[m, D]` in the stored dtype.
        """
        step = self._rows_of_a_chunk
        for group, _, _ in self._touched(int(rows[0]), int(rows[-1]) + 1):
            first, last = np.searchsorted(rows, (group.begin, group.begin + group.count))
            if first == last:
                continue
            values = self._decoded(group) if group.checksum is None else self._mapped(group)
            for low in range(int(first), int(last), step):
                part = slice(low, min(low + step, int(last)))
                yield part, rows_taken(values, rows[part] - group.begin)

    def chunks(self, most: int) -> Iterator[tuple[int, int, np.ndarray | None]]:
        """Yield runs of at most `most` rows, from a start to a stop, with their features mapped
        from the file, verified, where these lie there as float32.
        """
        self._groups = self._groups or self._read_footer()
        for group in self._groups:
            plain = group.checksum is not None and self._dtype == "float32"
            values = self._mapped(group) if plain else None
            for low in range(0, group.count, most):
                high = min(low + most, group.count)
                part = None if values is None else values[low:high]
                yield group.begin + low, group.begin + high, part

    @property
    def _rows_of_a_chunk(self) -> int:
        return max(1, _CHUNK_BYTES // feature_bytes(self._dimension, self._dtype))

    def _touched(self, start: int, stop: int) -> Iterator[tuple[_Group, int, int]]:
        """The row groups that hold any of the rows, and which of their own rows."""
        if self._groups is None:
            self._groups = self._read_footer()
        rows = self._groups[-1].begin + self._groups[-1].count if self._groups else 0
        if stop > rows:
            raise GalleryDamagedError(f"{self._path}: {rows} rows, fewer than the log says")
        for group in self._groups:
            low, high = max(start - group.begin, 0), min(stop - group.begin, group.count)
            if low < high:
                yield group, low, high

    def _read_footer(self) -> list[_Group]:
        width = feature_bytes(self._dimension, self._dtype)
        with self._opened() as parquet, self._bytes() as file:
            names = parquet.schema_arrow.names
            if "feature" not in names:
                raise GalleryDamagedError(f"{self._path}: the file has no features")
            column, begin, groups = names.index("feature"), 0, []
            for number in range(parquet.num_row_groups):
                about = parquet.metadata.row_group(number)
                found = page_checksum(file, about.column(column), about.num_rows * width)
                groups.append(_Group(number, begin, about.num_rows, *(found or (0, None))))
                begin += about.num_rows
        return groups

    def _copy(self, group: _Group, low: int, high: int, out: np.ndarray) -> None:
        """Copy rows of a group that are plain in the file, in chunks that fit into the cache."""
        is_new = group.number not in self._verified
        if is_new and high - low < group.count:
            self._mapped(group)
            is_new = False
        width = feature_bytes(self._dimension, self._dtype)
        step = self._rows_of_a_chunk
        buffer = np.empty((step, self._dimension), dtype=DTYPES[self._dtype])
        checksum = 0
        with self._bytes() as file:
            file.seek(group.offset + low * width)
            for begin in range(0, high - low, step):
                part = out[begin : min(begin + step, high - low)]
                is_direct = part.dtype == buffer.dtype and part.flags.c_contiguous
                stored = part if is_direct else buffer[: len(part)]
                if file.readinto(stored.data.cast("B")) != stored.nbytes:
                    raise GalleryDamagedError(f"{self._path}: the file was cut short")
                if is_new:
                    checksum = isal_zlib.crc32(stored.data, checksum)
                if not is_direct:
                    part[:] = stored
                check_unit_length(part, self._dtype, str(self._path))
        if is_new:
            self._note_verified(group, checksum)

    def _mapped(self, group: _Group) -> np.ndarray:
        """The group's stored features in the file, verified before the first use."""
        shape = (group.count, self._dimension)
        try:
            values = np.memmap(self._path, DTYPES[self._dtype], "r", group.offset, shape)
        except (OSError, ValueError) as error:
            raise GalleryDamagedError(f"{self._path}: the file cannot be read ({error})") from error
        if group.number not in self._verified:
            self._note_verified(group, isal_zlib.crc32(values.data))
        return values

    def _note_verified(self, group: _Group, checksum: int) -> None:
        if checksum != group.checksum:
            raise GalleryDamagedError(
                f"{self._path}: the file cannot be read (the checksum of its features is wrong)"
            )
        self._verified.add(group.number)

    def _decoded(self, group: _Group) -> np.ndarray:
        """The group's stored features, through Parquet."""
        with self._opened() as parquet:
            try:
                table = parquet.read_row_group(group.number, columns=["feature"], use_threads=False)
            except (pa.ArrowInvalid, OSError, IndexError) as error:
                raise GalleryDamagedError(
                    f"{self._path}: the file cannot be read ({error})"
                ) from error
        parts = [
            stored_values(chunk, self._dimension, self._dtype, str(self._path))
            for chunk in table["feature"].chunks
        ]
        return np.concatenate(parts)

    def _bytes(self) -> FileIO:
        try:
            return FileIO(self._path)
        except FileNotFoundError as error:
            raise self._gone() from error

    def _opened(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._path, pre_buffer=False, page_checksum_verification=True)
        except FileNotFoundError as error:
            raise self._gone() from error
        except (pa.ArrowInvalid, OSError) as error:
            raise GalleryDamagedError(f"{self._path}: the file cannot be read ({error})") from error

    def _gone(self) -> GalleryDamagedError:
        return GalleryDamagedError(
            f"{self._path}: a file of this version is gone; restore it or choose a version that "
            "has it"
        )


def rows_of(place: GalleryPlace, dimension: int, dtype: str) -> StoredRows | FetchedRows:
    """The features of one file, wherever it is."""
    if isinstance(place, ObjectPlace):
        return FetchedRows(place, dimension, dtype)
    return StoredRows(place, dimension, dtype)
