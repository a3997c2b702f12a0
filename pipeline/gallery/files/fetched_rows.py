"""The stored features of one file in an object store, by row.

One request fetches the features of a row group; their checksum is verified, and the requested part
is copied out. A group that was read in part is cached for a while, because the rest of it is
usually needed next.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib

from pipeline.gallery.files.feature_groups import FeatureGroup, feature_groups
from pipeline.gallery.files.object_file import ObjectFile
from pipeline.gallery.files.objects import ObjectPlace
from pipeline.gallery.files.page_header import stored_checksum
from pipeline.gallery.files.schema import DTYPES, check_unit_length, feature_bytes, stored_values
from pipeline.gallery.files.storage import GalleryDamagedError

_CHUNK_BYTES = 1 << 20
_SMALL_BYTES = 8 << 20
_KEPT_BYTES = 128 << 20


class _Kept:
    """A cache of the latest row groups that were read in part, up to a number of bytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[ObjectPlace, int], np.ndarray] = OrderedDict()

    def get(self, key: tuple[ObjectPlace, int]) -> np.ndarray | None:
        with self._lock:
            return self._groups.get(key)

    def add(self, key: tuple[ObjectPlace, int], values: np.ndarray) -> None:
        with self._lock:
            self._groups[key] = values
            while sum(each.nbytes for each in self._groups.values()) > _KEPT_BYTES:
                self._groups.popitem(last=False)

    def drop(self, key: tuple[ObjectPlace, int]) -> None:
        with self._lock:
            self._groups.pop(key, None)


_kept = _Kept()


class FetchedRows:
    """The features of one object, with the interface of `StoredRows`.

    All methods raise `GalleryDamagedError` naming the file.
    """

    def __init__(
        self,
        place: ObjectPlace,
        dimension: int,
        dtype: str,
        groups: Sequence[FeatureGroup] | None = None,
    ) -> None:
        self._place = place
        self._dimension = dimension
        self._dtype = dtype
        self._groups = groups

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """The features of the rows start to stop (exclusive), unit length, into float32 `[n, D]`.

        In addition to `out`, it uses memory for a row group.
        """
        whole = self._open()
        for group, low, high in self._touched(start, stop):
            values = self._values(group, low, high, whole)[low:high]
            part = out[group.begin + low - start : group.begin + high - start]
            step = self._rows_of_a_chunk  # what is in the cache is checked and copied together
            for begin in range(0, high - low, step):
                chunk = part[begin : begin + step]
                chunk[:] = values[begin : begin + step]
                check_unit_length(chunk, self._dtype, str(self._place))

    def take(self, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """The features of rows int64 `[n]`, ascending, some at a time: which of the rows, and their
        values `[m, D]` in the stored dtype.
        """
        step, whole = self._rows_of_a_chunk, self._open()
        for group, low, high in self._touched(int(rows[0]), int(rows[-1]) + 1):
            first, last = np.searchsorted(rows, (group.begin, group.begin + group.count))
            if first == last:
                continue
            values = self._values(group, low, high, whole)
            for begin in range(int(first), int(last), step):
                part = slice(begin, min(begin + step, int(last)))
                yield part, rows_taken(values, rows[part] - group.begin)

    def chunks(self, most: int) -> Iterator[tuple[int, int, None]]:
        """Yield runs of at most `most` rows, from a start to a stop; nothing is mapped here."""
        self._open()
        for group in self._groups or []:
            for low in range(0, group.count, most):
                yield group.begin + low, group.begin + min(low + most, group.count), None

    @property
    def _rows_of_a_chunk(self) -> int:
        return max(1, _CHUNK_BYTES // feature_bytes(self._dimension, self._dtype))

    def _touched(self, start: int, stop: int) -> Iterator[tuple[FeatureGroup, int, int]]:
        """The row groups that hold any of the rows, and which of their own rows."""
        groups = self._groups or []
        rows = groups[-1].begin + groups[-1].count if groups else 0
        if stop > rows:
            raise GalleryDamagedError(f"{self._place}: {rows} rows, fewer than the log says")
        for group in groups:
            low, high = max(start - group.begin, 0), min(stop - group.begin, group.count)
            if low < high:
                yield group, low, high

    def _open(self) -> memoryview | None:
        """Find the row groups, at the first use; return the bytes of a small file, to save another
        request.
        """
        if self._groups is not None:
            return None
        try:
            whole = self._place.fetch_small(_SMALL_BYTES)
        except FileNotFoundError as error:
            raise self._gone() from error
        self._groups = self._read_footer(whole)
        return whole

    def _read_footer(self, whole: memoryview | None) -> Sequence[FeatureGroup]:
        with self._opened(whole) as parquet:
            width = feature_bytes(self._dimension, self._dtype)
            groups = feature_groups(parquet.metadata, width)
        if groups is None:
            raise GalleryDamagedError(f"{self._place}: the file has no features")
        return groups

    def _values(
        self, group: FeatureGroup, low: int, high: int, whole: memoryview | None
    ) -> np.ndarray:
        """All features of a group `[n, D]`, of which the rows `low` to `high` are needed now."""
        key = self._place, group.number
        values = _kept.get(key)
        if values is None:
            values = self._fetched(group, whole)
            if values is None:
                values = self._decoded(group)
            if high - low < group.count:
                _kept.add(key, values)
        if high == group.count:  # whoever reads on needs it no more
            _kept.drop(key)
        return values

    def _fetched(self, group: FeatureGroup, whole: memoryview | None) -> np.ndarray | None:
        """The features as they are in the file, verified; None if they are not plain there."""
        if not group.header:
            return None
        try:
            if whole is None:
                page = self._place.fetch_range(group.offset, group.size)
            else:
                page = whole[group.offset : group.offset + group.size]
        except FileNotFoundError as error:
            raise self._gone() from error
        if len(page) != group.size:
            raise GalleryDamagedError(f"{self._place}: the file was cut short")
        data = page[group.header :]
        checksum = stored_checksum(bytes(page[: group.header]), len(data))
        if checksum is None:
            return None
        if checksum != isal_zlib.crc32(data):
            raise GalleryDamagedError(
                f"{self._place}: the file cannot be read (the checksum of its features is wrong)"
            )
        values = np.frombuffer(data, dtype=DTYPES[self._dtype])
        return values.reshape(group.count, self._dimension)

    def _decoded(self, group: FeatureGroup) -> np.ndarray:
        """The features of a file of another tool, read through Parquet."""
        with self._opened() as parquet:
            try:
                table = parquet.read_row_group(group.number, columns=["feature"], use_threads=False)
            except (pa.ArrowInvalid, OSError, IndexError) as error:
                raise self._unreadable(error) from error
        parts = [
            stored_values(chunk, self._dimension, self._dtype, str(self._place))
            for chunk in table["feature"].chunks
        ]
        return np.concatenate(parts)

    def _opened(self, whole: memoryview | None = None) -> pq.ParquetFile:
        try:
            source = ObjectFile(self._place) if whole is None else pa.BufferReader(whole)
            return pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True)
        except FileNotFoundError as error:
            raise self._gone() from error
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> GalleryDamagedError:
        return GalleryDamagedError(f"{self._place}: the file cannot be read ({error})")

    def _gone(self) -> GalleryDamagedError:
        return GalleryDamagedError(
            f"{self._place}: a file of this version is gone; restore it or choose a version that"
            " has it"
        )


def rows_taken(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows of features, each copied as one piece."""
    pieces = values.view(f"V{values.shape[1] * values.itemsize}")[:, 0]
    return pieces[rows].view(values.dtype).reshape(len(rows), values.shape[1])
