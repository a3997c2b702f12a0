"""Tables that may be larger than memory: in memory while they are small, otherwise mapped from a
file.

A mapped table is read and sliced like any other, and the system reclaims its pages when it needs
memory. Its file has no name, so it disappears with the table, even after a kill. It is in the
folder for temporary files (`TMPDIR`), which should not be in memory itself.
"""

import mmap
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.output_files import name_write_errors

ROWS_HELD = 2_000_000
"""Tables with more rows are written to a file; a sort takes this many rows at a time."""

_STEP, _STEPS = 16_384, 32
_BATCH_ROWS = 262_144


class TableWriter:
    """Build a table from parts, mapped from a file if it is large or if `to_file` is set.

    Batches of the table consist of whole parts, so a unit that is within one part is also within
    one batch.
    """

    def __init__(self, schema: pa.Schema, *, to_file: bool = False) -> None:
        self._schema = schema
        self._held: list[pa.Table] = []
        self._rows = 0
        self._most = 0 if to_file else ROWS_HELD
        self._file: IO[bytes] | None = None
        self._stream: Any = None

    def add(self, part: pa.Table) -> None:
        """Append the rows of a part, which has the columns of the schema."""
        if len(part) == 0:
            return
        self._held.append(part.select(self._schema.names).cast(self._schema))
        self._rows += len(part)
        if self._rows > (self._most if self._file is None else _BATCH_ROWS):
            self._write()

    def finish(self) -> pa.Table:
        """The table. Nothing can be added any more."""
        if self._file is None:
            return pa.concat_tables([self._schema.empty_table(), *self._held]).combine_chunks()
        self._write()
        with name_write_errors(self._place):
            self._stream.close()
            self._file.flush()
        # The mapping outlives the file's descriptor, and each slice of the table keeps it.
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file.close()
        return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).read_all()

    @property
    def _place(self) -> str:
        return f"{tempfile.gettempdir()} (temporary file)"

    def _write(self) -> None:
        parts, self._held, self._rows = self._held, [], 0
        if not parts:
            return
        with name_write_errors(self._place):
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 (the mapping takes it over)
                self._stream = pa.ipc.new_file(self._file, self._schema)
            for batch in pa.concat_tables(parts).combine_chunks().to_batches():
                self._stream.write_batch(batch)


class ByPath:
    """Rows with a column `path`, added in any order and read in the order of their paths.

    Rows with the same path stay in the order in which they were added.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._held: list[pa.Table] = []
        self._rows = 0
        self._runs: list[pa.Table] = []

    @classmethod
    def of_sorted(cls, *tables: pa.Table) -> "ByPath":
        """Make it from tables of one schema that are already sorted by path."""
        rows = cls(tables[0].schema)
        rows._runs = [table for table in tables if len(table)]
        return rows

    @classmethod
    def of(cls, table: pa.Table) -> "ByPath":
        """Make it from a table in any order; a sorted table is used as it is."""
        if _in_order(table["path"]):
            return cls.of_sorted(table)
        rows = cls(table.schema)
        for start in range(0, len(table), ROWS_HELD):
            rows.add(table.slice(start, ROWS_HELD))
        return rows

    def __len__(self) -> int:
        return self._rows + sum(map(len, self._runs))

    def add(self, part: pa.Table) -> None:
        """Add some rows, which have the columns of the schema."""
        if len(part) == 0:
            return
        self._held.append(part.select(self.schema.names).cast(self.schema))
        self._rows += len(part)
        if self._rows >= ROWS_HELD:
            self._end_run(to_file=True)

    def runs(self) -> list[pa.Table]:
        """All rows, as tables that are each sorted."""
        self._end_run(to_file=bool(self._runs))
        return self._runs

    def table(self) -> pa.Table:
        """All rows in order, as one table."""
        runs = self.runs()
        if len(runs) == 1:
            return runs[0]
        whole = TableWriter(self.schema)
        for (part,) in ranges(self):
            whole.add(part)
        return whole.finish()

    def _end_run(self, *, to_file: bool) -> None:
        parts, self._held, self._rows = self._held, [], 0
        if not parts:
            return
        run = pa.concat_tables(parts).sort_by("path")
        if to_file:
            written = TableWriter(self.schema, to_file=True)
            for start in range(0, len(run), _BATCH_ROWS):
                written.add(run.slice(start, _BATCH_ROWS))
            run = written.finish()
        self._runs.append(run)


def rows_at(table: pa.Table, places: NDArray[np.int64]) -> pa.Table:
    """The rows at ascending positions int64 `[n]`, taken batch by batch.

    Arrow's own `take` joins all batches first, and cannot join texts of more than 2 GB.
    """
    parts, first = [], 0
    for batch in table.to_batches():
        low, high = np.searchsorted(places, (first, first + len(batch)))
        if low < high:
            parts.append(batch.take(pa.array(places[low:high] - first)))
        first += len(batch)
    return pa.Table.from_batches(parts, table.schema)


def ranges(*sides: ByPath) -> Iterator[tuple[pa.Table, ...]]:
    """Yield the rows of each side, a range of paths at a time: about half a million rows in total.

    Equal paths are in one range. Each table is sorted by path.

    >>> left, right = (ByPath.of(pa.table({"path": list(text)})) for text in ("cab", "bd"))
    >>> [[each["path"].to_pylist() for each in tables] for tables in ranges(left, right)]
    [[['a', 'b', 'c'], ['b', 'd']]]
    """
    runs = [side.runs() for side in sides]
    samples = sorted(
        run["path"][place].as_py()
        for side in runs
        for run in side
        for place in range(_STEP, len(run), _STEP)
    )
    bounds = sorted(set(samples[_STEPS - 1 :: _STEPS]))
    edges = [[[0, *_places(run["path"], bounds), len(run)] for run in side] for side in runs]
    for number, _ in enumerate([*bounds, None]):
        found = []
        for side, of_side, places in zip(sides, runs, edges, strict=True):
            parts = [
                run.slice(ends[number], ends[number + 1] - ends[number])
                for run, ends in zip(of_side, places, strict=True)
                if ends[number] < ends[number + 1]
            ]
            table = pa.concat_tables(parts) if parts else side.schema.empty_table()
            found.append(table.sort_by("path") if len(parts) > 1 else table)
        if any(map(len, found)):
            yield tuple(found)


def _in_order(paths: pa.ChunkedArray) -> bool:
    last = None
    for some in filter(len, paths.chunks):
        if last is not None and last > some[0].as_py():
            return False
        if not pc.all(pc.less_equal(some[:-1], some[1:]), min_count=0).as_py():
            return False
        last = some[-1].as_py()
    return True


def _places(paths: pa.ChunkedArray, bounds: list[str]) -> list[int]:
    """The positions in sorted paths at which each of the ascending bounds would be inserted."""
    found, low = [], 0
    for bound in bounds:
        high = len(paths)
        while low < high:
            middle = (low + high) // 2
            if paths[middle].as_py() < bound:
                low = middle + 1
            else:
                high = middle
        found.append(low)
    return found
