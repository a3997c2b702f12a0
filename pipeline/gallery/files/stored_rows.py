"""The stored features of one file, by row.

Our own files store the features of a row group uncompressed, one after the other in one page. So
rows can be copied directly, even scattered ones. The page's checksum is verified at the first use
of a row group. A file of another form, from another tool, is read through Parquet, by whole groups.
"""

from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib  # its CRC-32 is ten times as fast as zlib's

from pipeline.gallery.files.feature_groups import FeatureGroup as FeatureGroup
from pipeline.gallery.files.feature_groups import feature_groups as feature_groups
from pipeline.gallery.files.fetched_rows import FetchedRows, rows_taken
from pipeline.gallery.files.page_header import stored_checksum
from pipeline.gallery.files.places import GalleryPlace, ObjectPlace
from pipeline.gallery.files.schema import DTYPES, check_unit_length, feature_bytes, stored_values
from pipeline.gallery.files.storage import GalleryDamagedError

_CHUNK_BYTES = 1 << 20


class StoredRows:
    """The features of one file; verifies each row group once.

    `groups` are its row groups, if the caller has read its footer. All methods raise
    `GalleryDamagedError` naming the file.
    """

    def __init__(
        self,
        path: Path,
        dimension: int,
        dtype: str,
        groups: Sequence[FeatureGroup] | None = None,
    ) -> None:
        self._path = path
        self._dimension = dimension
        self._dtype = dtype
        self._known = groups
        self._checksums: dict[int, int | None] = {}
        self._verified: set[int] = set()

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """The features of the rows start to stop (exclusive), unit length, into float32 `[n, D]`.

        In addition to `out`, it uses memory for a chunk, or for a row group of a file of another
        tool.
        """
        for group, low, high in self._touched(start, stop):
            part = out[group.begin + low - start : group.begin + high - start]
            if not self._copy(group, low, high, part):
                part[:] = self._decoded(group)[low:high]
                check_unit_length(part, self._dtype, str(self._path))

    def take(self, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """The features of rows int64 `[n]`, ascending, some at a time: which of the rows, and their
        values `[m, D]` in the stored dtype.
        """
        step = self._rows_of_a_chunk
        for group, _, _ in self._touched(int(rows[0]), int(rows[-1]) + 1):
            first, last = np.searchsorted(rows, (group.begin, group.begin + group.count))
            if first == last:
                continue
            values = self._mapped(group)
            if values is None:
                values = self._decoded(group)
            for low in range(int(first), int(last), step):
                part = slice(low, min(low + step, int(last)))
                yield part, rows_taken(values, rows[part] - group.begin)

    def chunks(self, most: int) -> Iterator[tuple[int, int, np.ndarray | None]]:
        """Yield runs of at most `most` rows, from a start to a stop, with their features mapped
        from the file, verified, where these lie there as float32.
        """
        for group in self._groups:
            values = self._mapped(group) if self._dtype == "float32" else None
            for low in range(0, group.count, most):
                high = min(low + most, group.count)
                part = None if values is None else values[low:high]
                yield group.begin + low, group.begin + high, part

    @property
    def _rows_of_a_chunk(self) -> int:
        return max(1, _CHUNK_BYTES // feature_bytes(self._dimension, self._dtype))

    @property
    def _groups(self) -> Sequence[FeatureGroup]:
        if self._known is None:
            with self._opened() as parquet:
                width = feature_bytes(self._dimension, self._dtype)
                self._known = feature_groups(parquet.metadata, width)
            if self._known is None:
                raise GalleryDamagedError(f"{self._path}: the file has no features")
        return self._known

    def _touched(self, start: int, stop: int) -> Iterator[tuple[FeatureGroup, int, int]]:
        """The row groups that hold any of the rows, and which of their own rows."""
        groups = self._groups
        rows = groups[-1].begin + groups[-1].count if groups else 0
        if stop > rows:
            raise GalleryDamagedError(f"{self._path}: {rows} rows, fewer than the log says")
        for group in groups:
            low, high = max(start - group.begin, 0), min(stop - group.begin, group.count)
            if low < high:
                yield group, low, high

    def _copy(self, group: FeatureGroup, low: int, high: int, out: np.ndarray) -> bool:
        """Copy rows of a group in chunks that fit into the cache; False if they are not plain in
        the file.
        """
        is_new = group.number not in self._verified
        if is_new and high - low < group.count:
            if self._mapped(group) is None:
                return False
            is_new = False
        with self._bytes() as file:
            if self._checksum(group, file) is None:
                return False
            checksum = self._copied(group, low, file, out, is_new)
        if is_new:
            self._note_verified(group, checksum)
        return True

    def _copied(
        self, group: FeatureGroup, low: int, file: FileIO, out: np.ndarray, is_new: bool
    ) -> int:
        """Copy the rows of a group from `low` on into `out`; the checksum of all if `is_new`."""
        width = feature_bytes(self._dimension, self._dtype)
        step = self._rows_of_a_chunk
        buffer = np.empty((step, self._dimension), dtype=DTYPES[self._dtype])
        checksum = 0
        file.seek(group.offset + group.header + low * width)
        for begin in range(0, len(out), step):
            part = out[begin : begin + step]
            is_direct = part.dtype == buffer.dtype and part.flags.c_contiguous
            stored = part if is_direct else buffer[: len(part)]
            if file.readinto(stored.data.cast("B")) != stored.nbytes:
                raise GalleryDamagedError(f"{self._path}: the file was cut short")
            if is_new:
                checksum = isal_zlib.crc32(stored.data, checksum)
            if not is_direct:
                part[:] = stored
            check_unit_length(part, self._dtype, str(self._path))
        return checksum

    def _mapped(self, group: FeatureGroup) -> np.ndarray | None:
        """The group's stored features in the file, verified before the first use; None if they are
        not plain there.
        """
        shape = (group.count, self._dimension)
        with self._bytes() as file:
            if self._checksum(group, file) is None:
                return None
            place = group.offset + group.header
            try:
                values = np.memmap(file, DTYPES[self._dtype], "r", place, shape)
            except (OSError, ValueError) as error:
                raise GalleryDamagedError(
                    f"{self._path}: the file cannot be read ({error})"
                ) from error
        if group.number not in self._verified:
            self._note_verified(group, isal_zlib.crc32(values.data))
        return values

    def _checksum(self, group: FeatureGroup, file: FileIO) -> int | None:
        """The checksum (CRC-32) of a group's features, from the header of their page; None if they
        are not plain in the file.
        """
        if not group.header:
            return None
        if group.number not in self._checksums:
            file.seek(group.offset)
            header = file.read(group.header)
            self._checksums[group.number] = stored_checksum(header, group.size - group.header)
        return self._checksums[group.number]

    def _note_verified(self, group: FeatureGroup, checksum: int) -> None:
        if checksum != self._checksums[group.number]:
            raise GalleryDamagedError(
                f"{self._path}: the file cannot be read (the checksum of its features is wrong)"
            )
        self._verified.add(group.number)

    def _decoded(self, group: FeatureGroup) -> np.ndarray:
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


def rows_of(
    place: GalleryPlace,
    dimension: int,
    dtype: str,
    groups: Sequence[FeatureGroup] | None = None,
) -> StoredRows | FetchedRows:
    """The features of one file, wherever it is; see `StoredRows`."""
    if isinstance(place, ObjectPlace):
        return FetchedRows(place, dimension, dtype, groups)
    return StoredRows(place, dimension, dtype, groups)
