"""Verdicts in a file of a user: a table with the columns a, b and verdict."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.input_files import check_file, why
from pipeline.runs.verdict_results import TABLE_SUFFIXES, GivenVerdict

_NEEDED = ("a", "b", "verdict")
_COLUMNS = (*_NEEDED, "who", "comment")
_DIGITS = 19
"""Digits of the largest int64; row ids have fewer."""


def read_verdict_file(path: Path) -> tuple[list[GivenVerdict], int]:
    """The verdicts of a `.csv` or `.parquet` file, and the number of its rows without a verdict.

    The columns `a` and `b` hold row ids or paths (a text of digits is a row id), `verdict` is
    same, different, withdrawn, or empty; `who` and `comment` may be left out. Other columns are
    not read. Raise `InputError` naming the row of the file that is wrong.
    """
    if path.suffix not in TABLE_SUFFIXES:
        raise InputError(f"{path}: verdicts are a file in {' or '.join(TABLE_SUFFIXES)}")
    check_file(path)
    try:
        table = _read(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {why(error)}") from error
    if missing := [name for name in _NEEDED if name not in table.column_names]:
        raise InputError(
            f"{path} has no column {' or '.join(missing)}: verdicts have the columns a, b and"
            " verdict"
        )
    rows = table.to_pylist()
    found = [
        _given(row, f"{path}, row {number}")
        for number, row in enumerate(rows, 1)
        if row["verdict"] is not None
    ]
    return found, len(rows) - len(found)


def named_row(text: str) -> int | str:
    """A row id if the text is a whole number, and a path otherwise.

    >>> named_row("17"), named_row("c1/17.jpg")
    (17, 'c1/17.jpg')
    """
    digits = text.strip()
    is_id = digits.isascii() and digits.isdecimal() and len(digits) < _DIGITS
    return int(digits) if is_id else text


def _read(path: Path) -> pa.Table:
    """The columns that are of use, as texts; empty texts are null."""
    if path.suffix == ".parquet":
        names = [name for name in pq.read_schema(path).names if name in _COLUMNS]
        table = pq.read_table(path, columns=names)
    else:
        texts = pa_csv.ConvertOptions(column_types=dict.fromkeys(_COLUMNS, pa.string()))
        table = pa_csv.read_csv(path, convert_options=texts)
        table = table.select([name for name in table.column_names if name in _COLUMNS])
    columns = [table[name].cast(pa.string()) for name in table.column_names]
    empty = pa.scalar(None, pa.string())
    return pa.table(
        [pc.if_else(pc.equal(pc.utf8_trim_whitespace(each), ""), empty, each) for each in columns],
        names=table.column_names,
    )


def _given(row: dict[str, Any], origin: str) -> GivenVerdict:
    for name in ("a", "b"):
        if row[name] is None:
            raise InputError(f"{origin} has no value in the column {name}")
    return GivenVerdict(
        named_row(row["a"]),
        named_row(row["b"]),
        row["verdict"].strip(),
        row.get("comment"),
        row.get("who"),
        origin,
    )
