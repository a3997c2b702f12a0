"""Conditions on a gallery's columns: a small part of SQL, either understood completely or refused
with the reason.

sqlglot parses the text; every node must be on the list below, and becomes an Arrow expression at
once. So nothing unchecked is evaluated, and anything that cannot be evaluated is an error: a
condition never selects a row for which it is not true.
"""

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import sqlglot
from pyarrow import fs
from sqlglot import exp

from pipeline.errors import InputError
from pipeline.gallery.files.schema import SCALAR_FIELDS, STATISTICS_COLUMNS
from pipeline.gallery.log.condition_operands import (
    ALLOWED,
    TYPES,
    NotAllowedError,
    cut,
    literal,
    needed,
    only,
    shown,
    typed,
)
from pipeline.gallery.log.ranges import Ranges

LONGEST_CONDITION = 10_000
"""The most characters in a condition."""
DEEPEST = 20
"""The most levels of brackets and `not` in a condition."""

_RUN = 32
_READABLE = "it cannot be read to its end; write it as in camera = '3' and identity > 7"
_COMPARISONS: dict[type[exp.Expr], Callable[[Any, Any], Any]] = {
    exp.EQ: operator.eq,
    exp.NEQ: operator.ne,
    exp.LT: operator.lt,
    exp.LTE: operator.le,
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """A parsed condition: its text, the columns that it uses, and its Arrow expression."""

    text: str
    columns: tuple[str, ...]
    may_fail: bool
    expression: pc.Expression

    def possible_files(self, ranges: Ranges) -> list[int]:
        """The numbers of the files that may hold a row for which the condition is true, by the
        statistics in the log; all files if the evaluation may fail, so that the error does not
        depend on the order of rows in files.
        """
        columns = [name for name in self.columns if name in STATISTICS_COLUMNS]
        every = range(len(ranges))
        if self.may_fail or not columns:
            return list(every)
        # Files that were written one after the other are usually alike: whole runs are ruled out.
        runs = [every[start : start + _RUN] for start in range(0, len(every), _RUN)]
        found = self._possible([ranges.guarantee(run.start, run.stop, columns) for run in runs])
        left = [number for at in found for number in runs[at]]
        found = self._possible([ranges.guarantee(each, each + 1, columns) for each in left])
        return [left[at] for at in found]

    def _possible(self, guarantees: Sequence[pc.Expression]) -> list[int]:
        """Which of some guarantees do not rule the condition out."""
        parquet, here = ds.ParquetFileFormat(), fs.LocalFileSystem()
        fragments = [
            parquet.make_fragment(str(at), here, known) for at, known in enumerate(guarantees)
        ]
        every = ds.FileSystemDataset(fragments, pa.schema(SCALAR_FIELDS), parquet, here)
        return [int(each.path) for each in every.get_fragments(filter=self.expression)]

    def true_of(self, rows: pa.Table) -> pa.Table:
        """The rows, of at least `columns`, for which the condition is true: neither false nor null.

        Raise `InputError` for a condition that cannot be evaluated, such as a cast of text that is
        not a number.
        """
        try:
            return rows.filter(self.expression)
        except pa.ArrowException as error:
            raise _does_not_work(self.text, str(error).partition("\n")[0]) from error


def parse(where: str) -> Condition:
    """Read a condition.

    Comparisons (`=`, `<>`, `<`, `<=`, `>`, `>=`, `between`, `in`, `like`, `ilike`, `is null`) of
    columns, of `cast(COLUMN as TYPE)` and of literals, each with a column, joined by `and`, `or`
    and `not`. A comparison with null is null, and selects nothing. Raise `InputError` for anything
    else (also for comments), for more than `LONGEST_CONDITION` characters, and for more than
    `DEEPEST` levels.

    >>> parse("camera = '3' and identity > 7").columns
    ('camera', 'identity')
    """
    if not where.strip():
        raise InputError("the condition is empty")
    if len(where) > LONGEST_CONDITION:
        raise InputError(
            f"the condition has {len(where):,} characters, and {LONGEST_CONDITION:,} are allowed: "
            "select many rows by their ids"
        )
    try:
        where.encode()
        tokens = sqlglot.tokenize(where, read="postgres")
        tree = sqlglot.parse_one(where, into=exp.Condition, dialect="postgres")
    except RecursionError as error:
        raise _does_not_work(where, _too_deep()) from error
    except Exception as error:  # the parser has errors of its own for odd texts
        raise _does_not_work(where, _READABLE) from error
    if isinstance(tree, exp.Block):  # two of them, with a semicolon between
        raise _does_not_work(where, _READABLE)
    if any(token.comments for token in tokens):
        raise _does_not_work(where, "it has a comment, behind which a part of it may be hidden")
    try:
        expression = _condition(tree, DEEPEST)
    except (NotAllowedError, RecursionError) as error:
        reason = str(error) if isinstance(error, NotAllowedError) else _too_deep()
        raise _does_not_work(where, reason) from error
    columns = dict.fromkeys(column.name for column in tree.find_all(exp.Column, bfs=False))
    casts = [cast for cast in tree.find_all(exp.Cast) if cast.find(exp.Column)]
    return Condition(where, tuple(columns), bool(casts), expression)


def all_of(parts: Sequence[Condition]) -> Condition:
    """The condition that holds if each of one or more conditions holds.

    >>> all_of([parse("camera = '3'"), parse("identity = 7 or identity = 9")]).text
    "camera = '3' and (identity = 7 or identity = 9)"
    """
    several = [bool(re.search(r"\bor\b", part.text, re.IGNORECASE)) for part in parts]
    texts = [
        f"({part.text})" if each and len(parts) > 1 else part.text
        for part, each in zip(parts, several, strict=True)
    ]
    return Condition(
        " and ".join(texts),
        tuple(dict.fromkeys(name for part in parts for name in part.columns)),
        any(part.may_fail for part in parts),
        _joined(operator.and_, [part.expression for part in parts]),
    )


def _condition(node: exp.Expr, levels: int) -> pc.Expression:
    """An expression that is true, false or null for a row."""
    node = node.unnest()
    if not levels:
        raise NotAllowedError(_too_deep())
    match node:
        case exp.And():
            return _joined(operator.and_, [_condition(each, levels - 1) for each in _chain(node)])
        case exp.Or():
            return _joined(operator.or_, [_condition(each, levels - 1) for each in _chain(node)])
        case exp.Not():
            return ~_condition(node.this, levels - 1)
    if node.find(exp.Column) is None:
        raise NotAllowedError(f"{shown(node)} uses no column: it is the same for every row")
    negated = bool(node.args.get("negate"))
    found = _comparison(node)
    return ~found if negated else found


def _comparison(node: exp.Expr) -> pc.Expression:
    match node:
        case exp.Column():
            raise NotAllowedError(f"{shown(node)} alone is not a condition: compare it")
        case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
            only(node, "this", "expression")
            return _compared(_COMPARISONS[type(node)], node.this, node.expression)
        case exp.Between():
            only(node, "this", "low", "high", "negate")
            low = _compared(operator.ge, node.this, node.args["low"])
            return low & _compared(operator.le, node.this, node.args["high"])
        case exp.In():
            only(node, "this", "expressions", "negate")
            return _is_in(node.this, node.expressions)
        case exp.Like() | exp.ILike():
            only(node, "this", "expression", "negate")
            return _like(node.this, node.expression, ignore_case=isinstance(node, exp.ILike))
        case exp.Is():
            only(node, "this", "expression", "negate")
            if not isinstance(node.expression, exp.Null):
                raise NotAllowedError(f"{shown(node)} is not allowed: is null, is not null")
            return needed(node.this).expression.is_null()
    raise NotAllowedError(f"{shown(node)} is not allowed: {ALLOWED}")


def _compared(compare: Callable[[Any, Any], Any], left: exp.Expr, right: exp.Expr) -> pc.Expression:
    """A comparison of two columns of one kind, or of a column and a literal."""
    left, right = left.unnest(), right.unnest()
    if left == right:
        raise NotAllowedError(f"it compares {shown(left)} with itself")
    first, second = typed(left), typed(right)
    if first and second:
        if first.kind != second.kind:
            raise NotAllowedError(
                f"{shown(left)} holds {first.kind} and {shown(right)} {second.kind}: "
                "cast one of them"
            )
        return compare(first.expression, second.expression)
    if first:
        return compare(first.expression, pc.scalar(literal(right, first.kind, shown(left))))
    if second:
        return compare(pc.scalar(literal(left, second.kind, shown(right))), second.expression)
    raise NotAllowedError(f"{shown(left)} is compared with {shown(right)}: neither is a column")


def _is_in(node: exp.Expr, members: Sequence[exp.Expr]) -> pc.Expression:
    """Whether a column equals one of some literals; null if the column is null."""
    found = needed(node)
    if not members:
        raise NotAllowedError(f"in takes values, as in {shown(node)} in (1, 2)")
    values = []
    for member in (each.unnest() for each in members):
        if typed(member):
            raise NotAllowedError(f"in takes values, and {shown(member)} is a column")
        values.append(literal(member, found.kind, shown(node)).as_py())
    column = found.expression
    is_one = pc.is_in(column, value_set=pa.array(values, TYPES[found.kind]))
    return is_one | (column.is_null() & pc.scalar(pa.scalar(None, pa.bool_())))


def _like(node: exp.Expr, pattern: exp.Expr, *, ignore_case: bool) -> pc.Expression:
    found, pattern = needed(node), pattern.unnest()
    if found.kind != "text":
        raise NotAllowedError(f"{shown(node)} holds {found.kind}: like is for text")
    if not (isinstance(pattern, exp.Literal) and pattern.is_string):
        raise NotAllowedError(f"like wants a pattern in quotes, not {shown(pattern)}")
    if re.search(r"(?<!\\)(\\\\)*\\$", pattern.this):
        raise NotAllowedError(f"the pattern {shown(pattern)} ends with an escape")
    return pc.match_like(found.expression, pattern.this, ignore_case=ignore_case)


def _chain(node: exp.Connector) -> Iterator[exp.Expr]:
    """The parts of `a and b and c`, without a level for each."""
    return node.flatten()


def _joined(
    join: Callable[[Any, Any], pc.Expression], parts: Sequence[pc.Expression]
) -> pc.Expression:
    """The parts joined as a balanced tree, which is evaluated recursively."""
    while len(parts) > 1:
        parts = [reduce(join, parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return parts[0]


def _too_deep() -> str:
    return f"it is nested more than {DEEPEST} levels deep"


def _does_not_work(where: str, reason: str) -> InputError:
    return InputError(f"the condition {cut(where)!r} does not work: {reason}")
