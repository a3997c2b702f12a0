"""Features of a version, by position in row-id order, a block at a time.

A row's position is its rank among the row ids of the version. Where the files do not interleave,
which is the rule, positions follow from the files' counts alone; else the row ids of the
interleaved files are read once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.gallery import storage
from pipeline.gallery.log import RowFile
from pipeline.gallery.schema import decode_features
from pipeline.gallery.storage import GalleryDamagedError


@dataclass(frozen=True)
class Runs:
    """Where positions lie: run i begins at position `starts[i]`, in `files[i]`, at its row
    `rows[i]`.

    The runs follow each other without gaps; the last entry of `starts` is the number of rows.
    """

    starts: np.ndarray
    files: np.ndarray
    rows: np.ndarray

    def locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The file and the row in that file of each position int64 `[n]`."""
        run = np.searchsorted(self.starts, positions, side="right") - 1
        return self.files[run], self.rows[run] + positions - self.starts[run]


@dataclass(frozen=True, eq=False)
class GalleryFeatures:
    """Unit-length features of one version `[N, D]`; picklable, and usable in any process that
    sees the files.
    """

    location: str
    version: int
    dimension: int
    dtype: str
    paths: tuple[str, ...]
    runs: Runs

    def __len__(self) -> int:
        return int(self.runs.starts[-1])

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """The features at positions start to stop (exclusive), float32 `[stop - start, D]`.

        They are written into `out` if it is given. Beyond it, the memory of one row group is used.
        Raises `IndexError` outside the gallery and `GalleryDamagedError` naming the file.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"positions {start} to {stop} of a gallery of {len(self)} rows")
        out = self._checked(out, stop - start)
        if not self._is_plain:
            return self._gather(np.arange(start, stop), out)
        first = max(0, int(np.searchsorted(self.runs.starts, start, side="right")) - 1)
        for run in range(first, len(self.runs.files)):
            begin, end = int(self.runs.starts[run]), int(self.runs.starts[run + 1])
            if begin >= stop:
                break
            low, high = max(begin, start), min(end, stop)
            rows = slice(low - begin, high - begin)
            self._read_rows(int(self.runs.files[run]), rows, out[low - start : high - start])
        return out

    def take(self, positions: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The features at any positions int64 `[n]`, in their order, float32 `[n, D]`; positions
        may repeat.
        """
        positions = np.asarray(positions, dtype=np.int64)
        if positions.ndim != 1:
            raise IndexError(f"positions of shape {list(positions.shape)}: one dimension expected")
        if len(positions) and not 0 <= positions.min() <= positions.max() < len(self):
            raise IndexError(
                f"positions {positions.min()} to {positions.max()} of a gallery of {len(self)} rows"
            )
        return self._gather(positions, self._checked(out, len(positions)))

    @property
    def _is_plain(self) -> bool:
        """Whether each file is one run."""
        return len(self.runs.files) == len(self.paths)

    def _checked(self, out: np.ndarray | None, count: int) -> np.ndarray:
        shape = (count, self.dimension)
        if out is None:
            return np.empty(shape, dtype=np.float32)
        if out.shape != shape or out.dtype != np.float32:
            raise ValueError(
                f"out is {out.dtype} {list(out.shape)}: float32 {list(shape)} expected"
            )
        return out

    def _gather(self, positions: np.ndarray, out: np.ndarray) -> np.ndarray:
        files, rows = self.runs.locate(positions)
        order = np.lexsort((rows, files))
        bounds = np.flatnonzero(np.diff(files[order], prepend=-1, append=-1))
        for low, high in pairwise(bounds):
            targets = order[low:high]
            self._gather_file(int(files[targets[0]]), rows[targets], targets, out)
        return out

    def _gather_file(
        self, file: int, rows: np.ndarray, targets: np.ndarray, out: np.ndarray
    ) -> None:
        """Reads the rows int64 `[n]`, ascending, of one file to `out[targets]`."""
        with self._opened(file) as parquet:
            self._check_holds(parquet, file, int(rows[-1]) + 1)
            for group, begin, count in _row_groups(parquet):
                low, high = np.searchsorted(rows, (begin, begin + count))
                if low < high:
                    block = np.empty((count, self.dimension), dtype=np.float32)
                    self._read_group(parquet, file, group, slice(0, count), block)
                    out[targets[low:high]] = block[rows[low:high] - begin]

    def _read_rows(self, file: int, rows: slice, out: np.ndarray) -> None:
        with self._opened(file) as parquet:
            self._check_holds(parquet, file, rows.stop)
            for group, begin, count in _row_groups(parquet):
                low, high = max(rows.start, begin), min(rows.stop, begin + count)
                if low < high:
                    part = out[low - rows.start : high - rows.start]
                    self._read_group(parquet, file, group, slice(low - begin, high - begin), part)

    def _opened(self, file: int) -> pq.ParquetFile:
        path = self._path(file)
        try:
            return pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
        except FileNotFoundError as error:
            raise GalleryDamagedError(
                f"{path}: a file of version {self.version} is gone; restore it or choose a "
                "version that has it"
            ) from error
        except (pa.ArrowInvalid, OSError) as error:
            raise GalleryDamagedError(f"{path}: the file cannot be read ({error})") from error

    def _read_group(
        self, parquet: pq.ParquetFile, file: int, group: int, rows: slice, out: np.ndarray
    ) -> None:
        """Decodes some rows of a row group, chunk by chunk, into `out`."""
        path = str(self._path(file))
        try:
            table = parquet.read_row_group(group, columns=["feature"], use_threads=False)
            column = table["feature"]
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            raise GalleryDamagedError(f"{path}: the file cannot be read ({error})") from error
        done = 0
        for chunk in column.slice(rows.start, rows.stop - rows.start).chunks:
            part = out[done : done + len(chunk)]
            decode_features(chunk, self.dimension, self.dtype, file=path, out=part)
            done += len(chunk)

    def _check_holds(self, parquet: pq.ParquetFile, file: int, rows: int) -> None:
        if parquet.metadata.num_rows < rows:
            raise GalleryDamagedError(
                f"{self._path(file)}: {parquet.metadata.num_rows} rows, fewer than the log says"
            )

    def _path(self, file: int) -> Path:
        return storage.local_root(self.location) / self.paths[file]


def index(root: Path, files: Sequence[RowFile]) -> Runs:
    """Where each position of these files, sorted by their smallest row id, lies."""
    parts = [_cluster_runs(root, files, cluster) for cluster in _clusters(files)]
    if not parts:
        nothing = np.zeros(0, dtype=np.int64)
        return Runs(np.zeros(1, dtype=np.int64), nothing, nothing)
    lengths, owners, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Runs(np.concatenate([[0], np.cumsum(lengths)]), owners, rows)


def _clusters(files: Sequence[RowFile]) -> Iterator[range]:
    """Runs of files whose row ids interleave."""
    start, reach = 0, -1
    for number, file in enumerate(files):
        if number > start and file.min_row_id > reach:
            yield range(start, number)
            start = number
        reach = max(reach, file.max_row_id)
    if files:
        yield range(start, len(files))


def _cluster_runs(
    root: Path, files: Sequence[RowFile], cluster: range
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Length, file and first row of each run of a cluster, in row-id order."""
    if len(cluster) == 1 and files[cluster.start].path[:1].isdigit():
        # Our own files hold their rows in row-id order.
        return np.array([files[cluster.start].rows]), np.array([cluster.start]), np.array([0])
    ids = [_row_ids(root / files[number].path, files[number].rows) for number in cluster]
    owners = np.repeat(np.asarray(cluster), [len(part) for part in ids])
    rows = np.concatenate([np.arange(len(part)) for part in ids])
    order = np.argsort(np.concatenate(ids), kind="stable")
    owners, rows = owners[order], rows[order]
    breaks = (np.diff(owners) != 0) | (np.diff(rows) != 1)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    return np.diff(starts, append=len(rows)), owners[starts], rows[starts]


def _row_ids(path: Path, rows: int) -> np.ndarray:
    try:
        ids = pq.read_table(path, columns=["row_id"])["row_id"].to_numpy()
    except (pa.ArrowInvalid, OSError) as error:
        raise GalleryDamagedError(f"{path}: the file cannot be read ({error})") from error
    if len(ids) != rows:
        raise GalleryDamagedError(f"{path}: {len(ids)} rows where the log says {rows}")
    return ids


def _row_groups(parquet: pq.ParquetFile) -> Iterator[tuple[int, int, int]]:
    """Number, first row and row count of each row group."""
    begin = 0
    for group in range(parquet.num_row_groups):
        count = parquet.metadata.row_group(group).num_rows
        yield group, begin, count
        begin += count
