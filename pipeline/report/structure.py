"""Checking plain data against the type that describes it; an error names the place."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import numpy as np

from pipeline.errors import InputError

# A sum of n rounded shares can pass 1 by some units in the last place.
_SLACK = 1e-9


@dataclass(frozen=True)
class Between:
    """The range of a number, both ends included: the metadata of an `Annotated` type."""

    low: float
    high: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"at least {self.low}"
        return f"from {self.low} to {self.high}"


def conform(value: Any, kind: Any, where: str) -> Any:
    """`value` as plain JSON data of the type `kind`; `where` names it in an error.

    `kind` is a TypedDict, `list[...]`, `dict[str, ...]`, `Literal[...]`, a number `Annotated` with
    `Between`, a union of them, or one of bool, int, float, str and None. NumPy numbers become
    Python's, tuples become lists, and a TypedDict's keys come out in the order of its definition.

    Raises InputError for a value of another type, a missing or unknown key, a number out of its
    range, and a number that JSON cannot hold (NaN, infinity).

    >>> import numpy as np
    >>> conform({"a": (np.float64(0.5), 1)}, dict[str, list[float]], "report")
    {'a': [0.5, 1.0]}
    """
    origin = get_origin(kind)
    if is_typeddict(kind):
        return _fields(value, kind, where)
    if origin is list:
        (item,) = get_args(kind)
        if not isinstance(value, list | tuple):
            raise _mismatch(value, kind, where)
        return [conform(element, item, f"{where}[{n}]") for n, element in enumerate(value)]
    if origin is dict:
        _, item = get_args(kind)
        return {
            key: conform(element, item, f"{where}.{key}")
            for key, element in _mapping(value, kind, where).items()
        }
    if origin is Literal:
        if value not in get_args(kind):
            raise _mismatch(value, kind, where)
        return value
    if origin is Annotated:
        inner, limits = get_args(kind)
        number = conform(value, inner, where)
        if not limits.low - _SLACK <= number <= limits.high + _SLACK:
            raise InputError(f"{where}: must be {limits}, got {value!r}")
        return number
    if origin in (Union, UnionType):
        return _alternative(value, kind, where)
    return _scalar(value, kind, where)


def _fields(value: Any, kind: Any, where: str) -> dict[str, Any]:
    given = _mapping(value, kind, where)
    hints = _hints(kind)
    missing = sorted(kind.__required_keys__ - given.keys())
    if missing:
        raise InputError(f"{where}: lacks {', '.join(missing)}")
    unknown = sorted(given.keys() - hints.keys())
    if unknown:
        raise InputError(f"{where}: has the unknown {', '.join(unknown)}")
    # get_type_hints leaves NotRequired around a field; its only argument is the type.
    return {
        key: conform(
            given[key],
            get_args(hint)[0] if key in kind.__optional_keys__ else hint,
            f"{where}.{key}",
        )
        for key, hint in hints.items()
        if key in given
    }


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _mapping(value: Any, kind: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _mismatch(value, kind, where)
    strange = [key for key in value if not isinstance(key, str)]
    if strange:
        raise InputError(f"{where}: keys must be text, got {strange[0]!r}")
    return value


def _alternative(value: Any, kind: Any, where: str) -> Any:
    options = [option for option in get_args(kind) if option is not NoneType]
    if value is None and len(options) < len(get_args(kind)):
        return None
    if len(options) == 1:
        return conform(value, options[0], where)
    for option in options:
        try:
            return conform(value, option, where)
        except InputError:
            continue
    raise _mismatch(value, kind, where)


def _scalar(value: Any, kind: Any, where: str) -> Any:
    truth = isinstance(value, bool | np.bool_)
    if kind is bool and truth:
        return bool(value)
    if kind is int and isinstance(value, Integral) and not truth:
        return int(value)
    if kind is float and isinstance(value, Real) and not truth:
        if not math.isfinite(value):
            raise InputError(f"{where}: {value} is no number that JSON can hold; use null (None)")
        return float(value)
    if kind is str and isinstance(value, str):
        return str(value)
    raise _mismatch(value, kind, where)


_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "null",
}


def _name(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _name(arguments[0])
    if origin is Literal:
        return " or ".join(repr(argument) for argument in arguments)
    if origin in (Union, UnionType):
        return ", ".join(_name(argument) for argument in arguments)
    if origin is list:
        return "a list"
    return _NAMES.get(kind, "an object")


def _mismatch(value: Any, kind: Any, where: str) -> InputError:
    shown = repr(value)
    return InputError(f"{where}: must be {_name(kind)}, got {shown[:60]} ({type(value).__name__})")
