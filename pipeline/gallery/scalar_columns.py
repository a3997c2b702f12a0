"""The scalar columns of row files: of all rows, of some, or of those for which a condition holds.

Each file is opened once, several at a time, and only the row groups that matter are read from it.
Every function raises `GalleryDamagedError` naming a file that differs from the log.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from pipeline.core.blocks import Made
from pipeline.gallery.files.places import GalleryPlace, ObjectPlace, ask_many, dataset, parquet
from pipeline.gallery.files.schema import SCALAR_FIELDS
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log.transactions import RowFile, Snapshot

if TYPE_CHECKING:
    from pipeline.gallery.log.conditions import Condition

FILES_AT_ONCE = 512
"""The files whose columns are in memory at the same time, where not all of them must be."""
_THREADS = min(4, os.cpu_count() or 1)
_FEW_FILES = 3
_NO_ROWS = np.zeros(0, np.int64)
_PLACE = "place"
_CHECKED = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


@dataclass(frozen=True)
class FoundRows:
    """Rows for which a condition holds: columns of them, and the number of the file and the row in
    that file of each, int64 `[n]`; also the footer of each of these files, by its number.
    """

    table: pa.Table
    files: np.ndarray
    rows: np.ndarray
    footers: Mapping[int, pq.FileMetaData]


@dataclass(frozen=True)
class _Part:
    """Some row groups of a file: their rows, the number in the file of each, and the footer."""

    table: pa.Table
    rows: np.ndarray
    footer: pq.FileMetaData


def read_columns(root: GalleryPlace, files: Sequence[RowFile], columns: Sequence[str]) -> pa.Table:
    """Columns of all rows, file by file, each once."""
    schema = _schema(columns)

    def read(file: RowFile) -> pa.Table:
        return _read(root, file, schema, lambda _, footer: range(footer.num_row_groups)).table

    return pa.concat_tables([schema.empty_table(), *_of_each(read, files, root)])


def read_rows(
    root: GalleryPlace,
    files: Sequence[RowFile],
    places: Sequence[tuple[int, np.ndarray, np.ndarray]],
    columns: Sequence[str],
) -> pa.Table:
    """Columns, each once, of the rows at some places (see `Runs.by_file`), in their order."""
    schema = _schema(columns)

    def read(place: tuple[int, np.ndarray, np.ndarray]) -> pa.Table:
        number, rows, _ = place
        part = _read(root, files[number], schema, lambda _, footer: _groups_of(rows, footer))
        return part.table.take(pa.array(np.searchsorted(part.rows, rows)))

    table = pa.concat_tables([schema.empty_table(), *_of_each(read, places, root)])
    order = np.concatenate([_NO_ROWS, *(targets for _, _, targets in places)])
    return table.take(pa.array(np.argsort(order)))


def find_rows(
    root: GalleryPlace, snapshot: Snapshot, condition: "Condition", columns: Sequence[str] = ()
) -> Iterator[FoundRows]:
    """Yield the rows of a version for which a condition holds, many files at a time, with some
    columns.

    Files and row groups that cannot hold such a row, by the statistics in the log and in the file,
    are not read. Raise what `Condition.true_of` raises.
    """
    numbers, files = condition.possible_files(snapshot.ranges), snapshot.files
    schema = _schema(sorted({*columns, *condition.columns}))

    def read(number: int) -> _Part:
        return _read(root, files[number], schema, partial(_possible_groups, condition))

    for start in range(0, len(numbers), FILES_AT_ONCE):
        some = numbers[start : start + FILES_AT_ONCE]
        parts = _of_each(read, some, root)
        rows = np.concatenate([part.rows for part in parts])
        owners = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
        together = pa.concat_tables([part.table for part in parts]).combine_chunks()
        found = condition.true_of(together.append_column(_PLACE, pa.array(np.arange(len(rows)))))
        places = found[_PLACE].to_numpy()
        owners = owners[places]
        footers = {some[at]: parts[at].footer for at in np.unique(owners).tolist()}
        yield FoundRows(
            found.select(list(columns)), np.asarray(some)[owners], rows[places], footers
        )


def _schema(columns: Sequence[str]) -> pa.Schema:
    fields = {field.name: field for field in SCALAR_FIELDS}
    return pa.schema([fields[name] for name in dict.fromkeys(columns)])


def _of_each(read: Callable[[Any], Made], items: Sequence[Any], root: GalleryPlace) -> list[Made]:
    """`read` of each item, several at the same time, in their order."""
    if isinstance(root, ObjectPlace):
        return list(ask_many(read, items, root))
    if len(items) < _FEW_FILES:
        return [read(item) for item in items]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(read, items))


def _read(
    root: GalleryPlace,
    file: RowFile,
    schema: pa.Schema,
    choose: Callable[[Any, pq.FileMetaData], Sequence[int]],
) -> _Part:
    """Columns of the row groups of a file that `choose` chooses by the file and its footer."""
    place = root / file.path
    try:
        source = parquet(place)
        with pq.ParquetFile(
            source, pre_buffer=not isinstance(place, Path), page_checksum_verification=True
        ) as opened:
            footer = opened.metadata
            if footer.num_rows != file.rows:
                raise GalleryDamagedError(
                    f"{place}: {footer.num_rows} rows where the log says {file.rows}"
                )
            if not _has(opened.schema_arrow, schema):  # another tool, or an earlier version, wrote
                table = dataset([place], schema, _CHECKED).to_table()
                return _Part(table, np.arange(file.rows), footer)
            groups = choose(source, footer)
            table = opened.read_row_groups(groups, columns=schema.names, use_threads=False)
    except FileNotFoundError as error:
        raise GalleryDamagedError(f"{place}: the file is gone; restore it") from error
    except (OSError, pa.ArrowInvalid) as error:
        # An error with a number is the system's: the file itself may be as it was written.
        advice = "" if getattr(error, "errno", None) else "; restore it"
        raise GalleryDamagedError(f"{place}: the file cannot be read ({error}){advice}") from error
    columns = [table[name] for name in schema.names]
    return _Part(pa.Table.from_arrays(columns, schema=schema), _rows_of(groups, footer), footer)


def _has(found: pa.Schema, schema: pa.Schema) -> bool:
    """Whether a file has the columns of a schema, once each, in its types."""
    return all(
        len(found.get_all_field_indices(field.name)) == 1
        and found.field(field.name).type == field.type
        for field in schema
    )


def _rows_of(groups: Sequence[int], footer: pq.FileMetaData) -> np.ndarray:
    """The rows of some row groups, ascending, int64 `[n]`."""
    if len(groups) == footer.num_row_groups:
        return np.arange(footer.num_rows)
    starts = _starts(footer)
    return np.concatenate([_NO_ROWS, *(np.arange(starts[n], starts[n + 1]) for n in groups)])


def _groups_of(rows: np.ndarray, footer: pq.FileMetaData) -> list[int]:
    """The row groups that hold any of some rows."""
    found: list[int] = np.unique(np.searchsorted(_starts(footer), rows, side="right") - 1).tolist()
    return found


def _starts(footer: pq.FileMetaData) -> np.ndarray:
    """The first row of each row group, and the number of all rows."""
    counts = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _possible_groups(condition: "Condition", source: Any, footer: pq.FileMetaData) -> Sequence[int]:
    """The row groups that may hold a row for which a condition holds; all of them if its evaluation
    may fail, so that the error does not depend on the order of rows.
    """
    if footer.num_row_groups < 2 or condition.may_fail:
        return range(footer.num_row_groups)
    if isinstance(source, Path):
        fragment = _CHECKED.make_fragment(str(source), fs.LocalFileSystem())
    else:
        fragment = _CHECKED.make_fragment(pa.PythonFile(source, mode="r"))
    possible = fragment.subset(condition.expression, schema=pa.schema(SCALAR_FIELDS))
    return [group.id for group in possible.row_groups]
