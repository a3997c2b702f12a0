"""Tables of pairs of rows for people to look at, in the form that `read_verdict_file` reads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.gallery.files import storage
from pipeline.input_files import check_file, why
from pipeline.output_files import has_mark

PAIR_TABLE = "pair table"
"""Its kind in the list of outputs of a gallery."""

PAIR_SCHEMA = pa.schema(
    [
        ("a", pa.string()),
        ("b", pa.string()),
        ("verdict", pa.string()),
        ("comment", pa.string()),
        ("kind", pa.string()),
        ("score", pa.float32()),
        ("weight", pa.float64()),
        ("path_a", pa.string()),
        ("path_b", pa.string()),
        ("camera_a", pa.string()),
        ("camera_b", pa.string()),
    ]
)
"""The columns: two rows (by id, or by path), the verdict if it is known and why, what kind of pair
it is, its similarity, how much it weighs, and the paths and cameras of both rows."""

_MARK = "regallery.pairs"


def pair_table(columns: Mapping[str, Any], rows: Mapping[str, pa.Table]) -> pa.Table:
    """A table in `PAIR_SCHEMA`: its `columns`, and path and camera of the `rows` `a` and `b`."""
    told = dict(columns)
    for end, table in rows.items():
        told |= {f"{name}_{end}": table[name] for name in ("path", "camera")}
    count = len(next(iter(rows.values())))
    empty = pa.nulls(count, pa.string())
    arrays = [told.get(field.name, empty) for field in PAIR_SCHEMA]
    return pa.table(arrays, names=PAIR_SCHEMA.names).cast(PAIR_SCHEMA)


def write_pairs(path: Path, table: pa.Table) -> None:
    """Write a table in `PAIR_SCHEMA` whole, to a `.csv` or `.parquet` file."""

    def write(temporary: Path) -> None:
        if path.suffix == ".csv":
            pa_csv.write_csv(table, temporary)
        else:
            pq.write_table(table.replace_schema_metadata({_MARK: json.dumps(1)}), temporary)

    storage.drop_cut_off(path.parent, path.name)
    storage.write_whole(path, write)


def read_pairs(path: Path) -> pa.Table:
    """A table that `write_pairs` wrote, in `PAIR_SCHEMA`.

    Raise InputError for a file that cannot be read, or that is not such a table.
    """
    check_file(path)
    if not is_pair_table(path):
        raise InputError(
            f"{path} is not a table of pairs: give the one that an evaluation wrote with `mine`"
        )
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        types = {field.name: field.type for field in PAIR_SCHEMA}
        options = pa_csv.ConvertOptions(column_types=types)
        return pa_csv.read_csv(path, convert_options=options)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {why(error)}") from error


def is_pair_table(path: Path) -> bool:
    """Whether `write_pairs` wrote a file: by its header, or its metadata."""
    if path.suffix == ".csv":
        header = ",".join(f'"{name}"' for name in PAIR_SCHEMA.names)
        return has_mark(path, f"{header}\n".encode())
    try:
        return _MARK.encode() in (pq.read_schema(path).metadata or {})
    except (OSError, ValueError):  # those of Arrow are values
        return False
