"""Frozen trees of values, one part changed."""

from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from typing import Any


def changed(value: Any, *path: str | int, to: Any) -> Any:
    """A copy of `value` with another part at `path`: fields, keys of mappings, places of tuples."""
    if not path:
        return to
    step, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        return {**value, step: changed(value.get(step), *rest, to=to)}
    if is_dataclass(value):
        return replace(value, **{str(step): changed(getattr(value, str(step)), *rest, to=to)})
    return tuple(
        changed(each, *rest, to=to) if place == step else each for place, each in enumerate(value)
    )
