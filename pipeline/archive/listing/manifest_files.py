"""Read manifests from users: .csv and .parquet files with a column for the path."""

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

from pipeline.archive.layouts.labels import (
    LayoutError,
    camera_name,
    capture_time,
    identity_of,
    looks_like_number,
    whole_number,
)
from pipeline.archive.layouts.rules import AS_THEY_ARE, LABELS, LabelSettings
from pipeline.archive.manifest import MANIFEST_SCHEMA
from pipeline.errors import InputError
from pipeline.input_files import why
from pipeline.large_tables import ByPath, ranges

MANIFEST_SUFFIXES = (".csv", ".parquet")

# Words for "unknown" that pandas, R and people write into a column of times or numbers.
_UNKNOWN = frozenset(("", "nan", "NaN", "NA", "N/A", "NaT", "null", "NULL", "None"))
# The names that other tools use for our columns.
_ALIASES = {
    "path": "path file filename file_name filepath file_path image image_path img img_path",
    "identity": "identity id label pid person person_id individual individual_id name class target "
    "vehicle vehicle_id object_id",
    "camera": "camera cam camid cam_id camera_id camera_name",
    "captured_at": "captured_at date time datetime timestamp captured taken_at",
}
# From this number on, the floating-point type no longer distinguishes whole numbers.
_EXACT_UP_TO = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}

_log = logging.getLogger(__name__)


def read_manifest(
    filesystem: AbstractFileSystem, path: str, settings: LabelSettings = AS_THEY_ARE
) -> pa.Table:
    """Read the manifest at `path`: the column `path`, and those of `LABELS` that it has.

    Columns have the types of MANIFEST_SCHEMA; relative paths are normalized (`./a//b` is `a/b`).
    Identities given as text become numbers, as in `labels.identity_of`. Three kinds of columns are
    named in the log and ignored: other columns, labels that look like numbers but cannot be read,
    and columns that look like labels. The `settings` name columns, select rows, and state the first
    identity and the time zone. Raise InputError for a file that is not a table or has no rows, for
    a missing column `path`, a null, empty or repeated path, and a label of the wrong type.
    """
    table = _renamed(path, _read_table(filesystem, path, settings), settings)
    names = table.column_names
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"manifest {path}: two columns are called {', '.join(repeated)}")
    if "path" not in names:
        raise InputError(
            f"manifest {path} has no column path; it has {', '.join(names)}{_hint('path', names)}"
        )
    if table.num_rows == 0:
        raise InputError(f"manifest {path} has no row")
    ignored = [name for name in names if name not in MANIFEST_SCHEMA.names]
    if ignored:
        _log.warning("manifest %s: columns not read: %s", path, ", ".join(ignored))
    _warn_of_lookalikes(path, names)
    columns = {"path": _paths(path, table["path"])}
    for name in LABELS:
        if name in names:
            columns[name] = _label(path, name, table[name], columns["path"], settings)
    return pa.table(columns)


def _renamed(path: str, table: pa.Table, settings: LabelSettings) -> pa.Table:
    """The selected rows, with our names of the columns."""
    for name, column in [
        *settings.renamed.items(),
        *((key, key) for key in settings.required_values),
    ]:
        if column not in table.column_names:
            setting = "columns" if name in settings.renamed else "only"
            raise InputError(
                f"manifest {path} has no column {column} (`{setting}`); it has "
                f"{', '.join(table.column_names)}"
            )
    for column, value in settings.required_values.items():
        texts = table[column].cast(pa.string()) if len(table) else pa.chunked_array([[""]])
        chosen = table.filter(pc.equal(pc.utf8_lower(texts), value.lower()))
        if not len(chosen) and len(table):
            some = ", ".join(map(str, texts.unique()[:5].to_pylist()))
            raise InputError(
                f"manifest {path}: no row has {column}={value} (`only`); its values are {some}"
            )
        table = chosen
    names = {column: name for name, column in settings.renamed.items()}
    hidden = set(settings.renamed) & set(table.column_names) - set(names)
    return table.drop_columns(sorted(hidden)).rename_columns(
        [names.get(name, name) for name in table.column_names if name not in hidden]
    )


def _warn_of_lookalikes(path: str, names: list[str]) -> None:
    """Warn of columns that may hold the missing labels under another name."""
    for label in ("identity", "camera"):
        if label not in names and (hint := _hint(label, names)):
            _log.warning("manifest %s has no %s%s", path, label, hint)


def _hint(label: str, names: list[str]) -> str:
    alike = [name for name in names if name.lower() in _ALIASES[label].split()]
    if not alike:
        return ""
    return f"; its column {alike[0]} may be meant: give `columns` {label}={alike[0]}"


def _read_table(filesystem: AbstractFileSystem, path: str, settings: LabelSettings) -> pa.Table:
    read_as_text = (*MANIFEST_SCHEMA.names, *settings.renamed.values(), *settings.required_values)
    as_text = {name: pa.string() for name in read_as_text}
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
    paths = column.cast(pa.string())
    for is_wrong, what in (
        (pc.fill_null(pc.equal(paths, ""), True), "has no path"),
        (pc.match_substring(paths, "\0"), "has a path with a zero byte"),
    ):
        if (row := pc.index(is_wrong, True).as_py()) >= 0:
            raise InputError(f"manifest {manifest}: row {row + 1} {what}")
    normal = pa.chunked_array([_normal(chunk) for chunk in paths.chunks], pa.string())
    repeated: list[str] = []
    for (some,) in ranges(ByPath.of(pa.table({"path": normal}))):
        ordered = some["path"].combine_chunks()
        again = ordered[1:].filter(pc.equal(ordered[1:], ordered[:-1]))
        repeated += again.unique().to_pylist()
    if repeated:
        raise InputError(
            f"manifest {manifest}: {len(repeated)} paths stand more than once, such as "
            f"{repeated[0]}; a path is a row's key"
        )
    return normal


def _normal(paths: pa.StringArray) -> pa.StringArray:
    """The paths without `.`, `..` and repeated slashes; few have any, and URLs stay unchanged."""
    odd = pc.match_substring_regex(paths, r"//|/$|(?:^|/)\.\.?(?:/|$)")
    odd = pc.and_(odd, pc.invert(pc.match_substring(paths, "://")))
    if not pc.any(odd).as_py():
        return paths
    plain = [posixpath.normpath(path) for path in paths.filter(odd).to_pylist()]
    return pc.replace_with_mask(paths, odd, pa.array(plain, pa.string()))


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)


def _label(
    manifest: str,
    name: str,
    column: pa.ChunkedArray,
    paths: pa.ChunkedArray,
    settings: LabelSettings,
) -> pa.ChunkedArray:
    """Convert the column to its type in MANIFEST_SCHEMA, once for each distinct value."""
    wanted = MANIFEST_SCHEMA.field(name).type
    type_ = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if name == "captured_at" and (pa.types.is_timestamp(type_) or pa.types.is_date(type_)):
        zone = getattr(type_, "tz", None)
        moments = column.cast(type_).cast(pa.timestamp("us", zone), safe=False)
        if zone is None:
            moments = pc.assume_timezone(
                moments, settings.time_zone, ambiguous="earliest", nonexistent="latest"
            )
        return moments.cast(wanted)
    if pa.types.is_null(type_):
        return column.cast(wanted)
    text_of = _text_of(name, type_)
    if text_of is None:
        raise InputError(f"manifest {manifest}: column {name} is {column.type}, not {wanted}")
    distinct = column.cast(type_).combine_chunks().dictionary_encode()
    labels: list[Any] = []
    unread: list[str] = []
    for position, value in enumerate(distinct.dictionary.to_pylist()):
        try:
            text = "" if value is None else text_of(value)
            labels.append(_value(name, text, settings))
        except (LayoutError, ValueError, OverflowError) as error:
            if name == "captured_at" and name in settings.renamed:
                unread.append(str(value))
                labels.append(None)
                continue
            row = pc.index(distinct.indices, pa.scalar(position, distinct.indices.type)).as_py()
            raise InputError(
                f"manifest {manifest}, row {row + 1} ({paths[row]}): {name} {value}: {error}"
            ) from error
    if unread:  # the column of another tool may hold years, or words; its images stay usable
        _log.warning(
            "manifest %s: %d times in %s cannot be read and are unknown: %s", manifest, len(unread),
            settings.renamed[name], ", ".join(unread[:5])
        )  # fmt: skip
    if name == "identity":
        _warn_of_odd_numbers(manifest, distinct.dictionary.to_pylist())
    return pa.chunked_array([pa.array(labels, wanted).take(distinct.indices)])


def _warn_of_odd_numbers(manifest: str, values: list[Any]) -> None:
    odd = [text for value in values if looks_like_number(text := str(value or ""))]
    if odd:
        _log.warning(
            "manifest %s: %d identities look like numbers and cannot be read as such; each is taken"
            " for a name: %s", manifest, len(odd), ", ".join(odd[:5])
        )  # fmt: skip


def _text_of(name: str, type_: pa.DataType) -> Callable[[Any], str] | None:
    """Make a function from values of that type to text; None if the type cannot hold that label."""
    if _is_text(type_) or pa.types.is_integer(type_):
        return lambda value: str(value).strip()
    if type_ in _EXACT_UP_TO and name != "captured_at":
        return lambda value: "" if value != value else _whole(value, type_)
    return None


def _whole(value: float, type_: pa.DataType) -> str:
    if value != int(value):
        raise ValueError("it is not a whole number")
    if abs(value) >= _EXACT_UP_TO[type_]:
        raise ValueError(f"{type_} cannot hold numbers this large exactly; store them as int64")
    return str(int(value))


def _frame(text: str) -> int:
    if not re.fullmatch(r"\d+(?:\.0+)?", text, re.ASCII):
        raise ValueError("it is not a whole number")
    return whole_number(text.partition(".")[0])


def _value(name: str, text: str, settings: LabelSettings) -> Any:
    """The value of a text as that label; None for unknown."""
    match name:
        case "identity":
            return identity_of(text, settings.first_identity)
        case "camera":
            return camera_name(text)
        case "captured_at":
            return None if text in _UNKNOWN else capture_time(text, settings.zone)
        case "tracklet":
            return None if text in _UNKNOWN else text
    return None if text in _UNKNOWN else _frame(text)
