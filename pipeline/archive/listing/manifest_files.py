"""Manifests that a user hands in: .csv and .parquet files with a column `path`."""

import logging
import posixpath
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline.archive.layouts.labels import LayoutError, identity_number, moment, whole_number
from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.errors import InputError
from pipeline.input_files import why

SUFFIXES = (".csv", ".parquet")

# What pandas, R and people write for "unknown" in a column that is no free text.
_UNKNOWN = frozenset(("", "nan", "NaN", "NA", "N/A", "NaT", "null", "NULL", "None"))
# Whole numbers from these on are no longer told apart by the floating-point type.
_EXACT_UP_TO = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}

_logger = logging.getLogger(__name__)


def read(filesystem: AbstractFileSystem, path: str) -> pa.Table:
    """The manifest at `path`: `path` and those of identity, camera, captured_at, frame it holds.

    Columns have the types of MANIFEST_SCHEMA; relative paths are normalized (`./a//b` is `a/b`).
    Identities that are text become numbers as `labels.identity_number` says. Other columns are
    named in the log and left out. Raises InputError for a file that is no table, has no row or no
    column `path`, a null, empty or repeated path, or a label of another type.
    """
    table = _read_table(filesystem, path)
    names = table.column_names
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"manifest {path}: two columns are called {', '.join(repeated)}")
    if "path" not in names:
        raise InputError(f"manifest {path} has no column path; it has {', '.join(names)}")
    if table.num_rows == 0:
        raise InputError(f"manifest {path} has no row")
    ignored = [name for name in names if name not in MANIFEST_SCHEMA.names]
    if ignored:
        _logger.warning("manifest %s: columns not read: %s", path, ", ".join(ignored))
    columns = {"path": _paths(path, table["path"])}
    for name in _FROM_TEXT:
        if name in names:
            columns[name] = _label(path, name, table[name], columns["path"])
    return pa.table(columns)


def _read_table(filesystem: AbstractFileSystem, path: str) -> pa.Table:
    as_text = {name: pa.string() for name in MANIFEST_SCHEMA.names}
    try:
        with filesystem.open(path, "rb") as file:
            if path.endswith(".parquet"):
                table = pq.read_table(file)
            else:
                options = pa_csv.ConvertOptions(
                    column_types=as_text, null_values=[""], strings_can_be_null=True
                )
                table = pa_csv.read_csv(file, convert_options=options)
        known = [name for name in table.column_names if name in MANIFEST_SCHEMA.names]
        for name in set(known) - {name for name in known if known.count(name) > 1}:
            table[name].validate(full=True)  # text of a Parquet file may be no UTF-8
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # not of Arrow
            raise
        raise InputError(f"manifest {path} cannot be read as a table: {why(error)}") from error
    return table


def _paths(manifest: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not _is_text(column.type):
        raise InputError(f"manifest {manifest}: column path is {column.type}, not text")
    paths = column.cast(pa.string()).to_pylist()
    for row, path in enumerate(paths):
        if not path:
            raise InputError(f"manifest {manifest}: row {row + 1} has no path")
        if "\0" in path:
            raise InputError(f"manifest {manifest}: row {row + 1} has a path with a zero byte")
        if "://" not in path:
            paths[row] = posixpath.normpath(path)
    normal = pa.chunked_array([pa.array(paths, pa.string())])
    counts = normal.value_counts()
    repeated = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise InputError(
            f"manifest {manifest}: {len(repeated)} paths stand more than once, such as "
            f"{repeated[0]}; a path is a row's key"
        )
    return normal


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)


def _label(
    manifest: str, name: str, column: pa.ChunkedArray, paths: pa.ChunkedArray
) -> pa.ChunkedArray:
    """The column as MANIFEST_SCHEMA types it, converted once for each distinct value."""
    wanted = MANIFEST_SCHEMA.field(name).type
    type_ = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if name == "captured_at" and (pa.types.is_timestamp(type_) or pa.types.is_date(type_)):
        zone = getattr(type_, "tz", None)
        moments = column.cast(type_).cast(pa.timestamp("us", zone), safe=False)
        return moments.cast(wanted)  # a time without a zone is UTC
    if pa.types.is_null(type_):
        return column.cast(wanted)
    text_of = _text_of(name, type_)
    if text_of is None:
        raise InputError(f"manifest {manifest}: column {name} is {column.type}, not {wanted}")
    unknown = {""} if name == "camera" else _UNKNOWN
    distinct = column.cast(type_).combine_chunks().dictionary_encode()
    labels: list[Any] = []
    for position, value in enumerate(distinct.dictionary.to_pylist()):
        try:
            text = "" if value is None else text_of(value)
            labels.append(None if text in unknown else _FROM_TEXT[name](text))
        except (LayoutError, ValueError, OverflowError) as error:
            row = pc.index(distinct.indices, pa.scalar(position, distinct.indices.type)).as_py()
            raise InputError(
                f"manifest {manifest}, row {row + 1} ({paths[row]}): {name} {value}: {error}"
            ) from error
    return pa.chunked_array([pa.array(labels, wanted).take(distinct.indices)])


def _text_of(name: str, type_: pa.DataType) -> Callable[[Any], str] | None:
    """How a value of that type is told as text; None where the type cannot hold that label."""
    if _is_text(type_) or pa.types.is_integer(type_):
        return lambda value: str(value).strip()
    if type_ in _EXACT_UP_TO and name != "captured_at":
        return lambda value: "" if value != value else _whole(value, type_)
    return None


def _whole(value: float, type_: pa.DataType) -> str:
    if value != int(value):
        raise ValueError("it is no whole number")
    if abs(value) >= _EXACT_UP_TO[type_]:
        raise ValueError(f"{type_} does not tell so large numbers apart; store them as int64")
    return str(int(value))


def _frame(text: str) -> int:
    if not re.fullmatch(r"\d+(?:\.0+)?", text, re.ASCII):
        raise ValueError("it is no whole number")
    return whole_number(text.partition(".")[0])


def _identity(text: str) -> int:
    # A table with unknown identities, written by pandas, holds 7.0 for identity 7.
    return identity_number(re.sub(r"^(\d+)\.0+$", r"\1", text, flags=re.ASCII))


_FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "identity": _identity,
    "camera": str,
    "captured_at": moment,
    "frame": _frame,
}
