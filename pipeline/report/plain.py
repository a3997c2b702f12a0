"""Convert results to plain data, the basis of all JSON in the project."""

import dataclasses
import math
from collections.abc import Mapping
from datetime import date
from enum import Enum
from pathlib import PurePath
from typing import Any


def plain(value: Any) -> Any:
    """Convert `value` to dicts, lists, texts, numbers and None, for JSON.

    A dataclass becomes an object of its fields, in their order; the metadata `json` of a field is
    its key, if that differs from its name. A value that is not a number (NaN, infinity) becomes
    None. Raise TypeError for a value that JSON cannot represent.

    >>> plain({"mAP": float("nan"), "ranks": (1, 5)})
    {'mAP': None, 'ranks': [1, 5]}
    """
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.metadata.get("json", field.name): plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Enum):
        return plain(value.value)
    if hasattr(value, "tolist"):  # a NumPy array or number, without importing NumPy for it
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no form in JSON")
