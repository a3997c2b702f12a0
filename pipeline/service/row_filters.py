"""Filters of a search, in the form that Qdrant uses: `{"must": [...], "must_not": [...]}`."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.runs.times import parse_time
from pipeline.service.held_gallery import COLUMNS, HeldGallery

_RANGES = {
    "gt": pc.greater,
    "gte": pc.greater_equal,
    "lt": pc.less,
    "lte": pc.less_equal,
}
_MOST_VALUES = 1000
_MOST_CONDITIONS = 50


def allowed_rows(held: HeldGallery, given: Any) -> NDArray[np.bool_] | None:
    """The rows bool `[N]` that meet a filter; None if there is none.

    A condition has a `key`, which is a column, and one of: `match` with a `value`, with `any` of
    some, or with none of `except`; `range` with `gt`, `gte`, `lt`, `lte`; and `is_null`. A row
    without a value meets only `is_null`, and what is `must_not`. Raise InputError for anything
    else.

    >>> allowed_rows(None, None) is None
    True
    """
    if given is None:
        return None
    if not isinstance(given, dict) or not given:
        raise InputError("`filter` must be an object with `must` or `must_not`")
    unknown = sorted(set(given) - {"must", "must_not"})
    if unknown:
        raise InputError(f"`filter` has no {unknown[0]!r}: it has `must` and `must_not`")
    allowed = np.ones(len(held), np.bool_)
    for clause in ("must", "must_not"):
        conditions = given.get(clause, [])
        if not isinstance(conditions, list) or len(conditions) > _MOST_CONDITIONS:
            raise InputError(f"`{clause}` must be a list of at most {_MOST_CONDITIONS} conditions")
        for condition in conditions:
            met = _met(held.columns, condition)
            allowed &= met if clause == "must" else ~met
    return allowed


def _met(columns: pa.Table, condition: Any) -> NDArray[np.bool_]:
    """Whether each row meets one condition."""
    if not isinstance(condition, dict) or len(condition) != 2 or "key" not in condition:
        raise InputError("a condition must have a `key`, and `match`, `range` or `is_null`")
    key = condition["key"]
    if key not in COLUMNS:
        raise InputError(f"there is no column {key!r:.40}: the columns are {', '.join(COLUMNS)}")
    column = columns[key]
    (kind,) = set(condition) - {"key"}
    if kind == "match":
        met = _matches(key, column, condition["match"])
    elif kind == "range":
        met = _in_range(key, column, condition["range"])
    elif kind == "is_null" and isinstance(condition[kind], bool):
        met = pc.equal(pc.is_null(column), condition[kind])
    else:
        raise InputError(f"a condition on {key} must have `match`, `range`, or `is_null`: true")
    return np.asarray(pc.fill_null(met, False), np.bool_)


def _matches(key: str, column: pa.ChunkedArray, given: Any) -> pa.ChunkedArray:
    if not isinstance(given, dict) or len(given) != 1:
        raise InputError(f"`match` on {key} must have one of `value`, `any` and `except`")
    ((kind, values),) = given.items()
    if kind == "value":
        return pc.equal(column, _scalar(key, column.type, values))
    if kind not in ("any", "except"):
        raise InputError(f"`match` on {key} has no {kind!r}: it has `value`, `any` or `except`")
    if not isinstance(values, list) or not 0 < len(values) <= _MOST_VALUES:
        raise InputError(f"`{kind}` of {key} must be a list of 1 to {_MOST_VALUES:,} values")
    told = pa.array([_scalar(key, column.type, each) for each in values], column.type)
    found = pc.is_in(column, value_set=told)
    if kind == "any":
        return found
    return pc.and_(pc.invert(found), pc.is_valid(column))


def _in_range(key: str, column: pa.ChunkedArray, given: Any) -> pa.ChunkedArray:
    if not isinstance(given, dict) or not given or set(given) - set(_RANGES):
        raise InputError(f"`range` of {key} must have some of {', '.join(_RANGES)}")
    if pa.types.is_string(column.type):
        raise InputError(f"{key} is text: it has no range; give `match`")
    met = None
    for sign, value in given.items():
        one = _RANGES[sign](column, _scalar(key, column.type, value))
        met = one if met is None else pc.and_(met, one)
    return met


def _scalar(key: str, kind: pa.DataType, value: Any) -> pa.Scalar:
    """A value as one of its column; raise InputError for another kind of value."""
    if pa.types.is_timestamp(kind) and isinstance(value, str):
        return pa.scalar(parse_time(f"`{key}`", value), kind)
    fits = {
        "text": pa.types.is_string(kind) and isinstance(value, str),
        "number": not pa.types.is_string(kind)
        and not pa.types.is_timestamp(kind)
        and isinstance(value, int | float)
        and not isinstance(value, bool),
    }
    try:
        if any(fits.values()):
            return pa.scalar(value, kind)
    except (pa.ArrowInvalid, OverflowError, TypeError) as error:
        raise InputError(f"{value!r:.40} cannot be compared with {key} ({kind})") from error
    raise InputError(f"{value!r:.40} cannot be compared with {key} ({kind})")
