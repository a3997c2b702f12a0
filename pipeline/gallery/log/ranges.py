"""What the statistics in the log tell of the rows of files: counts, and ranges of columns."""

import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.gallery.files.schema import STATISTICS_COLUMNS

_KINDS = ("min", "max", "null_count")


@dataclass(frozen=True)
class Ranges:
    """The statistics of some files by name, an entry for each file: `num_records`, and `min`, `max`
    and `null_count` of those of `STATISTICS_COLUMNS` that the log has.
    """

    arrays: Mapping[str, pa.Array]

    @classmethod
    def of(cls, actions: pa.Table, rows: Sequence[int]) -> "Ranges":
        """Those of some rows of the log's flat table of files, in this order."""
        wanted = ("num_records", *(f"{k}.{name}" for name in STATISTICS_COLUMNS for k in _KINDS))
        there = [name for name in wanted if name in actions.column_names]
        order = pa.array(rows, pa.int64())
        return cls({name: actions[name].combine_chunks().take(order) for name in there})

    def __len__(self) -> int:
        return len(self.arrays["num_records"])

    def guarantee(self, start: int, stop: int, columns: Collection[str]) -> pc.Expression:
        """What holds for these columns of all rows of the files `start` to `stop` (exclusive)."""
        known = (part for name in columns for part in self._known(name, start, stop))
        return reduce(operator.and_, known, pc.scalar(True))

    def _known(self, name: str, start: int, stop: int) -> Iterator[pc.Expression]:
        """What is known of a column."""
        if not {f"{kind}.{name}" for kind in _KINDS} <= self.arrays.keys():
            return
        low, high = (self.arrays[f"{kind}.{name}"][start:stop] for kind in ("min", "max"))
        nulls = self.arrays[f"null_count.{name}"][start:stop].to_pylist()
        rows = self.arrays["num_records"][start:stop].to_pylist()
        for each, absent in enumerate(nulls):
            has_range = low[each].is_valid and high[each].is_valid
            if absent is None or not (has_range or absent == rows[each]):
                return
        is_null = pc.field(name).is_null()
        if nulls == rows:
            yield is_null
            return
        # Arrow's own values: for those of Python, each comparison looks for pandas. And one by
        # one: Arrow does not use a range that may be null.
        lowest, highest = (low[0], high[0]) if len(rows) == 1 else (pc.min(low), pc.max(high))
        for bound in (pc.field(name) >= lowest, pc.field(name) <= highest):
            yield bound | is_null if any(nulls) else bound
