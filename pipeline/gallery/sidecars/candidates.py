"""The table of identity candidates that linking proposes for the rows of a gallery."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.core.identities.linking import Groups
from pipeline.errors import InputError
from pipeline.gallery.files import storage
from pipeline.gallery.formats.csv_cells import safe_cells
from pipeline.input_files import check_file, parse_json, why
from pipeline.output_files import has_mark

COLUMNS = ("row_id", "path", "camera", "captured_at", "frame")
_ADDED = ("candidate", "size", "score")
_GALLERY = "gallery"
_ABOUT = "regallery.link"


def candidates(
    rows: pa.Table,
    kept: NDArray[np.int64],
    groups: Groups,
    galleries: pa.ChunkedArray | None = None,
) -> pa.Table:
    """One row for each of `rows` `[N]`, in their order; `groups` has the groups of the rows at
    `kept` `[n]`.

    In addition to `COLUMNS`: `candidate`, the smallest row id of the group; `size`, its rows;
    `score`, that of the row's strongest link inside the group, null for a row alone. Rows that are
    not in `kept` have no candidate. If the rows are of several `galleries` (locations `[N]`), the
    last column is `gallery`, and a candidate is the number of its first row among all, from 0.
    """
    ids = rows["row_id"].to_numpy() if galleries is None else np.arange(len(rows))
    place = np.full(len(rows), -1, np.int64)
    place[kept] = np.arange(len(kept))
    taken = pa.array(place, mask=place < 0)
    added = {
        "candidate": pa.array(ids[kept][groups.group], pa.int64()),
        "size": pa.array(groups.sizes, pa.int64()),
        "score": pa.array(groups.strongest, pa.float32(), from_pandas=True),
    }
    told = {name: rows[name] for name in COLUMNS}
    told |= {name: column.take(taken) for name, column in added.items()}
    return pa.table(told if galleries is None else told | {_GALLERY: galleries})


def write_candidates(
    path: Path, table: pa.Table, about: Mapping[str, Any], *, safe_csv: bool = False
) -> None:
    """Write the table whole to a `.parquet` file, with `about` in its metadata, or a `.csv`.

    With `safe_csv` no cell of a `.csv` is a formula to a spreadsheet (`safe_cells`).
    """

    def write(temporary: Path) -> None:
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(safe_cells(table) if safe_csv else table, temporary)
        else:
            metadata = {_ABOUT: json.dumps(dict(about))}
            pq.write_table(table.replace_schema_metadata(metadata), temporary)

    storage.drop_cut_off(path.parent, path.name)
    storage.write_whole(path, write)


def is_candidates(path: Path) -> bool:
    """Whether a file is a table that `write_candidates` wrote: by its metadata, or by the header of
    a `.csv`.
    """
    if path.suffix == ".csv":
        header = ",".join(f'"{name}"' for name in (*COLUMNS, *_ADDED))
        headers = (header, f'{header},"{_GALLERY}"')
        return any(has_mark(path, f"{each}\n".encode()) for each in headers)
    try:
        return _ABOUT.encode() in (pq.read_schema(path).metadata or {})
    except (OSError, ValueError):  # those of Arrow are values
        return False


def read_candidates(path: Path) -> pa.Table:
    """The columns path, candidate and score of a table that `write_candidates` wrote.

    Raise `InputError` where there is none, or it is another file.
    """
    check_file(path)
    if not is_candidates(path):
        raise InputError(f"{path} is not a table of identity candidates, as linking writes it")
    names = ["path", "candidate", "score"]
    try:
        if path.suffix == ".csv":
            kinds = {"path": pa.string(), "candidate": pa.int64(), "score": pa.float32()}
            options = pyarrow.csv.ConvertOptions(column_types=kinds, include_columns=names)
            return pyarrow.csv.read_csv(path, convert_options=options)
        return pq.read_table(path, columns=names)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {why(error)}") from error


def about_candidates(path: Path) -> dict[str, Any] | None:
    """The origin that a `.parquet` of `write_candidates` states; None for a `.csv`, which states
    none.
    """
    if path.suffix == ".csv":
        return None
    about = (pq.read_schema(path).metadata or {}).get(_ABOUT.encode())
    return None if about is None else dict(parse_json(about))
