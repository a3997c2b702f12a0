"""Select the rows to erase: conditions that must all hold, and the rows that meet them."""

import fnmatch
import re
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.gallery.table import Gallery

_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class Selection:
    """Conditions that must all hold; None and () are no condition.

    `where` is SQL on the columns; `identities` and `row_ids` are lists of values; one of the
    `paths`, which are shell patterns (`*`, `?`, `[..]`, also across folders), must match;
    `captured_before` is a time with its zone. Raise `InputError` for a condition or a path without
    a letter.
    """

    where: str | None = None
    identities: tuple[int, ...] = ()
    paths: tuple[str, ...] = ()
    row_ids: tuple[int, ...] = ()
    captured_before: datetime | None = None

    def __post_init__(self) -> None:
        if self.captured_before is not None and self.captured_before.tzinfo is None:
            raise InputError(f"the time {self.captured_before} has no zone")
        if self.where is not None and not self.where.strip():
            raise InputError("the condition is empty")
        if not all(path.strip() for path in self.paths):
            raise InputError("a path is empty")
        for number in (*self.identities, *self.row_ids):
            if not _SMALLEST <= number <= _LARGEST:
                raise InputError(f"{number} is not a row id or identity: they have 64 bits")

    @property
    def is_empty(self) -> bool:
        """Whether no condition was given."""
        return self == Selection()

    @property
    def is_of_paths(self) -> bool:
        """Whether there are only paths, so that rejects are selected, too."""
        return bool(self.paths) and self == Selection(paths=self.paths)


@dataclass(frozen=True)
class Selected:
    """The result of a selection: row ids int64 `[n]`, ascending, and paths of rejects.

    `without_time` counts rows that meet all other conditions, but have no capture time.
    """

    row_ids: np.ndarray
    reject_paths: tuple[str, ...]
    without_time: int


def selected_rows(gallery: Gallery, selection: Selection) -> Selected:
    """The selected rows of a version, and the rejects if the selection has only paths.

    Raise `InputError` for a condition that cannot be read or evaluated, or an empty selection.
    """
    if selection.is_empty:
        raise InputError("nothing is selected: say which rows are meant")
    rows = gallery.rows(["row_id", "path", "identity", "captured_at"])
    ids = rows["row_id"].to_numpy()
    fits = np.ones(len(ids), dtype=bool)
    if selection.where is not None:
        fits &= np.isin(ids, gallery.select(selection.where))
    if selection.identities:
        fits &= _is_in(rows["identity"], selection.identities)
    if selection.row_ids:
        fits &= np.isin(ids, np.array(selection.row_ids, np.int64))
    if selection.paths:
        fits &= _fits_any(rows["path"], selection.paths)
    without_time = 0
    if selection.captured_before is not None:
        times = rows["captured_at"]
        before = pa.scalar(selection.captured_before, times.type)
        without_time = int((fits & times.is_null().to_numpy()).sum())
        fits &= pc.less(times, before).fill_null(False).to_numpy()
    bad: tuple[str, ...] = ()
    if selection.is_of_paths:
        paths = gallery.rejects()["path"]
        bad = tuple(paths.filter(pa.array(_fits_any(paths, selection.paths))).to_pylist())
    return Selected(ids[fits], bad, without_time)


def _is_in(column: pa.ChunkedArray, values: tuple[int, ...]) -> np.ndarray:
    return pc.is_in(column, value_set=pa.array(values, pa.int64())).to_numpy()


def _fits_any(column: pa.ChunkedArray, patterns: tuple[str, ...]) -> np.ndarray:
    """Whether each path equals one of the patterns or matches one."""
    fits = pc.is_in(column, value_set=pa.array(patterns, pa.string())).to_numpy()
    shapes = [each for each in patterns if re.search(r"[*?\[]", each)]
    if shapes:
        fit = re.compile("|".join(fnmatch.translate(each) for each in shapes)).match
        fits = fits | np.array([fit(path) is not None for path in column.to_pylist()], bool)
    return fits
