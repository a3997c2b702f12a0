"""Data against its type: what comes out plain, and where an error points."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.report.structure import Between, conform


class Point(TypedDict):
    x: int
    y: float
    note: NotRequired[str]


def test_numbers_of_numpy_become_plain() -> None:
    plain = conform({"y": np.float32(0.5), "x": np.int64(3)}, Point, "p")
    assert plain == {"x": 3, "y": 0.5}
    assert [type(value) for value in plain.values()] == [int, float]
    assert type(conform(np.bool_(True), bool, "p")) is bool


def test_keys_come_in_the_order_of_the_type() -> None:
    assert list(conform({"note": "n", "y": 1, "x": 2}, Point, "p")) == ["x", "y", "note"]


def test_a_union_takes_the_first_type_that_fits() -> None:
    kind = bool | int | float | str | None
    values = [True, 3, 0.5, "text", None]
    plain = [conform(value, kind, "p") for value in values]
    assert plain == values
    assert [type(value) for value in plain] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ({"x": 1}, Point, "p: lacks y"),
        ({"x": 1, "y": 1, "z": 1}, Point, "p: has the unknown z"),
        ({"x": 1, "y": "1"}, Point, r"p\.y: must be a number, got '1' \(str\)"),
        ({"x": 1.5, "y": 1}, Point, r"p\.x: must be a whole number"),
        ({"x": True, "y": 1}, Point, r"p\.x: must be a whole number"),
        ([1, 2], Point, "p: must be an object"),
        ({1: 2}, dict[str, int], "p: keys must be text, got 1"),
        ({"a": "b"}, dict[str, int], r"p\.a: must be a whole number"),
        ([1, None], list[int], r"p\[1\]: must be a whole number, got None"),
        ("text", list[str], "p: must be a list"),
        (float("nan"), float, r"p: nan is no number that JSON can hold; use null"),
        (np.float32("inf"), float, "p: inf is no number that JSON can hold"),
        ("c", Literal["a", "b"], "p: must be 'a' or 'b', got 'c'"),
        (-1, Annotated[int, Between(0)], "p: must be at least 0, got -1"),
        (1.5, Annotated[float, Between(0, 1)], "p: must be from 0 to 1, got 1.5"),
        ("x", Annotated[float, Between(0, 1)] | None, "p: must be a number, got 'x'"),
        ([1], int | str, "p: must be a whole number, text, got"),
    ],
)
def test_an_error_names_the_place(value: Any, kind: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        conform(value, kind, "p")


def test_a_sum_may_pass_its_bound_by_rounding() -> None:
    assert conform(1 + 2e-16, Annotated[float, Between(0, 1)], "p") == 1 + 2e-16
