"""The operands of a condition: columns, casts of columns, and literals of the same kind."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from pipeline.gallery.files.schema import SCALAR_COLUMNS, SCALAR_FIELDS
from pipeline.schemas import TIMESTAMP

ALLOWED = (
    "use comparisons of columns, and, or, not, in (...), between, like, ilike, is null and cast"
)
_SHOWN = 80
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1

# The kind of a column, and the type in which it is compared.
TYPES = {
    "text": pa.string(),
    "whole numbers": pa.int64(),
    "numbers": pa.float64(),
    "times": TIMESTAMP,
    "days": pa.date32(),
    "bytes": pa.binary(),
}
_TARGETS = {
    "TEXT": "text",
    "VARCHAR": "text",
    "BIGINT": "whole numbers",
    "INT": "whole numbers",
    "DOUBLE": "numbers",
    "TIMESTAMP": "times",
    "TIMESTAMPTZ": "times",
    "DATE": "days",
}
_CASTS = {
    ("whole numbers", "text"),
    ("whole numbers", "numbers"),
    ("text", "whole numbers"),
    ("text", "numbers"),
    ("times", "days"),
} | {(kind, kind) for kind in TYPES}


class NotAllowedError(Exception):
    """The reason why a condition does not work."""


@dataclass(frozen=True)
class Typed:
    """A column or the cast of one: its kind, and its Arrow expression."""

    kind: str
    expression: pc.Expression


def typed(node: exp.Expr) -> Typed | None:
    """A column, or the cast of one; None for a literal."""
    match node:
        case exp.Column():
            return _column(node)
        case exp.Cast() if isinstance(node.this.unnest(), exp.Column):
            return _cast(node)
        case exp.Literal() | exp.HexString():
            return None
        case exp.Neg() | exp.Cast() if isinstance(node.this, exp.Literal):
            return None
        case exp.Null():
            raise NotAllowedError("a comparison with null is never true: write is null")
    raise NotAllowedError(f"{shown(node)} is not allowed: {ALLOWED}")


def needed(node: exp.Expr) -> Typed:
    """A column, or the cast of one; raise for a literal, which would make no sense here."""
    found = typed(node.unnest())
    if found is None:
        raise NotAllowedError(f"{shown(node)} is not a column")
    return found


def _column(node: exp.Column) -> Typed:
    only(node, "this")
    if node.name not in SCALAR_COLUMNS:
        raise NotAllowedError(
            f"No field named {node.name}. Valid fields are {', '.join(SCALAR_COLUMNS)}"
        )
    stored = SCALAR_FIELDS[SCALAR_COLUMNS.index(node.name)].type
    kind = _kind_of(stored)
    found = pc.field(node.name)
    # Cast only if necessary: statistics are of the column itself.
    return Typed(kind, found if stored == TYPES[kind] else found.cast(TYPES[kind]))


def _kind_of(stored: pa.DataType) -> str:
    if pa.types.is_integer(stored):
        return "whole numbers"
    if pa.types.is_floating(stored):
        return "numbers"
    if pa.types.is_timestamp(stored):
        return "times"
    return "text" if pa.types.is_string(stored) else "bytes"


def _cast(node: exp.Cast) -> Typed:
    """The cast of a column; if a value cannot be cast, the evaluation fails."""
    target = _target(node)
    found = needed(node.this)
    if (found.kind, target) not in _CASTS:
        raise NotAllowedError(f"{shown(node.this)} holds {found.kind}: no cast makes it {target}")
    return Typed(target, found.expression.cast(TYPES[target]))


def _target(node: exp.Cast) -> str:
    if isinstance(node, exp.TryCast):
        raise NotAllowedError("try_cast is not allowed: cast, and what cannot be cast is an error")
    only(node, "this", "to")
    target = None
    if set(_given(node.to)) <= {"this"}:
        target = _TARGETS.get(node.to.this.name)
    if target is None:
        raise NotAllowedError(
            f"{shown(node)} is not allowed: cast to text, bigint, double, timestamp or date"
        )
    return target


def literal(node: exp.Expr, kind: str, column: str) -> pa.Scalar:
    """Convert a literal to a value of the type that it is compared with."""
    try:
        return pa.scalar(_value(node, kind), TYPES[kind])
    except (ValueError, OverflowError) as error:
        hint = ": compare text with text in quotes, as in camera = '3'" if kind == "text" else ""
        raise NotAllowedError(
            f"{column} holds {kind}: {shown(node)} is something else{hint}"
        ) from error


def _value(node: exp.Expr, kind: str) -> Any:
    """The value of a literal; raise ValueError for one of another kind."""
    match node:
        case exp.Literal() if node.is_string:
            return _text_value(node.this, kind)
        case exp.Literal() | exp.Neg():
            return _number(node, kind)
        case exp.HexString() if kind == "bytes":
            return bytes.fromhex(node.this)
        case exp.Cast() if isinstance(node.this, exp.Literal) and node.this.is_string:
            target = _target(node)
            value = _text_value(node.this.this, target)
            if (target, kind) == ("days", "times"):
                return datetime.combine(value, time(), UTC)
            if target == kind:
                return value
    raise ValueError(node)


def _text_value(text: str, kind: str) -> Any:
    if kind == "text":
        return text
    if kind == "days":
        return date.fromisoformat(text)
    # Python would drop digits that are finer than the column.
    if kind != "times" or re.search(r"[.,]\d{7}", text):
        raise ValueError(text)
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _number(node: exp.Expr, kind: str) -> Any:
    sign = 1
    if isinstance(node, exp.Neg):
        node, sign = node.this, -1
    if not isinstance(node, exp.Literal) or node.is_string:
        raise ValueError(node)
    if kind == "numbers":
        return sign * float(node.this)
    if kind != "whole numbers" or not _SMALLEST <= sign * int(node.this) <= _LARGEST:
        raise ValueError(node)
    return sign * int(node.this)


def only(node: exp.Expr, *names: str) -> None:
    """Refuse a node with other parts, such as `escape` or a subquery."""
    if set(_given(node)) - set(names):
        raise NotAllowedError(f"{shown(node)} is not allowed: {ALLOWED}")


def _given(node: exp.Expr) -> list[str]:
    return [name for name, value in node.args.items() if value not in (None, False, [])]


def shown(node: exp.Expr) -> str:
    """The text of a part of a condition for a message."""
    return cut(node.sql(dialect="postgres", comments=False))


def cut(text: str) -> str:
    """A long text, cut short."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
