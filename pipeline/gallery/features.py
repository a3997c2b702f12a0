"""Features of a version, by position in row-id order, block by block.

A row's position is its rank among the row ids of the version. Usually files do not interleave, and
positions follow from the files' counts alone; otherwise the row ids of the interleaved files are
read once.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.core.blocks import empty_rows
from pipeline.gallery.files.places import GalleryPlace, ObjectPlace, root_of
from pipeline.gallery.files.schema import DTYPES, check_unit_length
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.files.stored_rows import FeatureGroup, FetchedRows, StoredRows, rows_of
from pipeline.gallery.log.removed import report_removal
from pipeline.gallery.log.transactions import RowFile
from pipeline.gallery.scalar_columns import read_columns

# Memory limits the speed of reading: more than a few threads do not help.
_THREADS = min(4, os.cpu_count() or 1)
# Each holds a row group that it has fetched.
_FETCHES = 8
_MANY_BYTES = 32 << 20
_MANY_FILES = 4
_SHOWN = 5
_DENSE = 4
_CHUNK_ROWS = 65_536


@dataclass(frozen=True)
class Runs:
    """The location of positions: run i begins at position `starts[i]`, in `files[i]`, at its row
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

    def by_file(self, positions: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """For each file with any of the positions int64 `[n]`: its rows, ascending, and the indices
        of these positions.
        """
        files, rows = self.locate(positions)
        order = np.lexsort((rows, files))
        bounds = np.flatnonzero(np.diff(files[order], prepend=-1, append=-1))
        parts = [order[low:high] for low, high in pairwise(bounds)]
        return [(int(files[part[0]]), rows[part], part) for part in parts]

    def positions_of(self, files: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The position of each of some rows: those of the files `[n]`, int64 `[n]`.

        >>> runs = Runs(np.array([0, 2, 3, 4]), np.array([0, 1, 0]), np.array([0, 0, 2]))
        >>> runs.positions_of(np.array([1, 0, 0]), np.array([0, 2, 1]))
        array([2, 3, 1])
        """
        if np.array_equal(self.files, np.arange(len(self.files))):  # each file is one run
            return self.starts[files] + rows
        # A small type is sorted in linear time.
        small = self.files.astype(np.min_scalar_type(int(self.files.max())))
        by_file = np.argsort(small, kind="stable")
        found = np.empty(len(rows), np.int64)
        for file in np.unique(files):
            low, high = np.searchsorted(small, (file, file + 1), sorter=by_file)
            own, asked = by_file[low:high], files == file
            runs = own[np.searchsorted(self.rows[own], rows[asked], side="right") - 1]
            found[asked] = self.starts[runs] + rows[asked] - self.rows[runs]
        return found

    def positions(self, file: int) -> np.ndarray:
        """The position of each row of a file, int64 `[n]`.

        >>> Runs(np.array([0, 2, 3, 4]), np.array([0, 1, 0]), np.array([0, 0, 2])).positions(0)
        array([0, 1, 3])
        """
        own = np.flatnonzero(self.files == file)
        lengths = np.diff(self.starts)[own]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        found = np.empty(len(within), np.int64)
        found[np.repeat(self.rows[own], lengths) + within] = (
            np.repeat(self.starts[:-1][own], lengths) + within
        )
        return found


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
    groups: Mapping[int, Sequence[FeatureGroup]] = field(default_factory=dict, repr=False)
    """The row groups of files of which the footer has been read, by the number of the file."""
    _opened: dict[int, StoredRows | FetchedRows] = field(
        default_factory=dict, init=False, repr=False
    )

    def __len__(self) -> int:
        return int(self.runs.starts[-1])

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """The features at positions start to stop (exclusive), float32 `[stop - start, D]`.

        They are written into `out` if it is given. In addition, the memory of one row group is
        used. A file's checksums are verified at the first use of a row group, its norms every time.
        Raise `IndexError` outside the gallery, `GalleryDamagedError` naming the file, and
        `RunError` if a purge or a clean has removed this version.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"positions {start} to {stop} of a gallery of {len(self)} rows")
        out = self._checked(out, stop - start)
        if not self._is_plain:
            return self._gather(np.arange(start, stop), out)
        first = max(0, int(np.searchsorted(self.runs.starts, start, side="right")) - 1)
        last = int(np.searchsorted(self.runs.starts, stop, side="left"))

        def read_run(run: int) -> None:
            begin, end = int(self.runs.starts[run]), int(self.runs.starts[run + 1])
            low, high = max(begin, start), min(end, stop)
            rows = self._rows_of(int(self.runs.files[run]))
            rows.read(low - begin, high - begin, out[low - start : high - start])

        self._each(read_run, range(first, last), out.nbytes)
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

    def stored(self, positions: np.ndarray) -> np.ndarray:
        """The features at positions int64 `[n]` as stored, to the byte: `[n, D]` of the stored
        dtype.
        """
        out = np.empty((len(positions), self.dimension), dtype=DTYPES[self.dtype])

        def read_file(of_file: tuple[int, np.ndarray, np.ndarray]) -> None:
            file, rows, targets = of_file
            for part, values in self._rows_of(file).take(rows):
                out[targets[part]] = values

        self._each(read_file, self.runs.by_file(positions), out.nbytes)
        return out

    def file_chunks(self, file: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield the features of a file in order, float32 `[n, D]`, some rows at a time, beside the
        same rows mapped from the file where they lie there as float32.

        The mapped rows may start at any byte; they are those of the file even after its removal.
        Raise the errors of `read`.
        """
        rows = self._rows_of(file)
        with report_removal(root_of(self.location), self.version):
            for start, stop, mapped in rows.chunks(_CHUNK_ROWS):
                out = empty_rows(stop - start, self.dimension)
                rows.read(start, stop, out)
                yield out, mapped

    @property
    def _is_plain(self) -> bool:
        """Whether each file is one run."""
        return len(self.runs.files) == len(self.paths)

    def _checked(self, out: np.ndarray | None, count: int) -> np.ndarray:
        shape = (count, self.dimension)
        if out is None:
            return empty_rows(*shape)
        if out.shape != shape or out.dtype != np.float32:
            raise ValueError(
                f"out is {out.dtype} {list(out.shape)}: float32 {list(shape)} expected"
            )
        return out

    def _gather(self, positions: np.ndarray, out: np.ndarray) -> np.ndarray:
        def read_file(of_file: tuple[int, np.ndarray, np.ndarray]) -> None:
            file, rows, targets = of_file
            for part, values in self._rows_of(file).take(rows):
                block = values.astype(np.float32, copy=False)
                check_unit_length(block, self.dtype, f"{self.location}/{self.paths[file]}")
                out[targets[part]] = block

        self._each(read_file, self.runs.by_file(positions), out.nbytes)
        return out

    def _each(self, read: Callable[[Any], None], parts: Sequence[Any], size: int) -> None:
        root = root_of(self.location)
        with report_removal(root, self.version):
            if isinstance(root, ObjectPlace):
                _spread(read, parts)
            else:
                _each(read, parts, size)

    def _rows_of(self, file: int) -> StoredRows | FetchedRows:
        if file not in self._opened:
            path, groups = root_of(self.location) / self.paths[file], self.groups.get(file)
            self._opened[file] = rows_of(path, self.dimension, self.dtype, groups)
        return self._opened[file]

    def __getstate__(self) -> dict[str, Any]:
        """Another process checks the files again."""
        return {**self.__dict__, "groups": {}, "_opened": {}}


def _each(read: Callable[[Any], None], parts: Sequence[Any], size: int) -> None:
    """Read every part; in parallel if there are many parts, or several with many bytes.

    Few rows of a part can be many bytes, because at the first use of a row group all of it is read.
    """
    if len(parts) < 2 or (len(parts) < _MANY_FILES and size < _MANY_BYTES):
        for part in parts:
            read(part)
        return
    with ThreadPoolExecutor(min(_THREADS, len(parts))) as pool:
        for done in [pool.submit(read, part) for part in parts]:
            done.result()


def _spread(read: Callable[[Any], None], parts: Sequence[Any]) -> None:
    """Read every part, several at once: each waits for an object store."""
    with ThreadPoolExecutor(max(1, min(_FETCHES, len(parts)))) as pool:
        for done in [pool.submit(read, part) for part in parts]:
            done.result()


def index_positions(root: GalleryPlace, files: Sequence[RowFile]) -> Runs:
    """The place of each position in these files, which are sorted by their smallest row id."""
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
    root: GalleryPlace, files: Sequence[RowFile], cluster: range
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Length, file and first row of each run of a cluster, in row-id order."""
    if len(cluster) == 1 and files[cluster.start].path[:1].isdigit():
        # Our own files hold their rows in row-id order.
        return np.array([files[cluster.start].rows]), np.array([cluster.start]), np.array([0])
    counts = [files[number].rows for number in cluster]
    together = read_columns(root, files[cluster.start : cluster.stop], ["row_id"])["row_id"]
    ids = together.to_numpy()
    owners = np.repeat(np.asarray(cluster), counts)
    rows = np.concatenate([np.arange(count) for count in counts])
    order = _order(ids)
    owners, rows = owners[order], rows[order]
    _check_once(root, files, ids[order], owners)
    breaks = (np.diff(owners) != 0) | (np.diff(rows) != 1)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    return np.diff(starts, append=len(rows)), owners[starts], rows[starts]


def _order(ids: np.ndarray) -> np.ndarray:
    """The order that sorts some row ids int64 `[n]`.

    >>> _order(np.array([7, 5, 8])), _order(np.array([7, 7, 10**9])), _order(np.array([8, 7, 7]))
    (array([1, 0, 2]), array([0, 1, 2]), array([1, 2, 0]))
    """
    low = int(ids.min())
    span = int(ids.max()) - low + 1
    if span <= _DENSE * len(ids):  # few ids are missing: each finds its place at once
        places = np.full(span, -1)
        places[ids - low] = np.arange(len(ids))
        order = places[places >= 0]
        if len(order) == len(ids):  # else some come twice
            return order
    return np.argsort(ids, kind="stable")


def _check_once(
    root: GalleryPlace, files: Sequence[RowFile], ids: np.ndarray, owners: np.ndarray
) -> None:
    """Raise `GalleryDamagedError` if one of these sorted row ids occurs more than once.

    Our own commits never repeat an id. Files with disjoint ranges of ids cannot share one, so this
    check costs nothing unless another tool has written.
    """
    again = np.flatnonzero(ids[1:] == ids[:-1])
    if not len(again):
        return
    twice = np.unique(ids[again])
    shown = ", ".join(map(str, twice[:_SHOWN].tolist()))
    more = f" and {len(twice) - _SHOWN} more" if len(twice) > _SHOWN else ""
    first, second = (files[owners[place]].path for place in (again[0], again[0] + 1))
    where = first if first == second else f"{first} and {second}"
    raise GalleryDamagedError(
        f"{root}: another tool added rows that were there; row ids that come more than once:"
        f" {shown}{more} (row id {twice[0]} in {where}); go back to a version before"
        " them: regallery info --versions lists the versions, regallery restore --version takes one"
    )
