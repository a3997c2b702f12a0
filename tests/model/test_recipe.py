"""The recipe: its values, its fingerprint, its text and its differences."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.model.recipe import Recipe, load_recipe_fields

PLAIN = Recipe(weights="0" * 64)
OTHER: dict[str, Any] = {
    "weights": "1" * 64,
    "height": 384,
    "width": 192,
    "channels": "bgr",
    "pixel_range": 255.0,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "letterbox": True,
    "flip": True,
    "scales": (1.0, 1.5),
    "fusion": "raw",
    "five_crops": True,
    "stretch": (7000.0, 7600.0),
    "output": "feature",
}

numbers = st.floats(-1000, 1000, allow_nan=False)
recipes = st.builds(
    Recipe,
    weights=st.text("0123456789abcdef", min_size=64, max_size=64),
    height=st.integers(1, 4096),
    width=st.integers(1, 4096),
    channels=st.sampled_from(["rgb", "bgr"]),
    pixel_range=st.floats(0.1, 1000),
    mean=st.tuples(numbers, numbers, numbers),
    std=st.tuples(*[st.floats(0.01, 1000)] * 3),
    letterbox=st.booleans(),
    flip=st.booleans(),
    scales=st.lists(st.floats(0.1, 8), min_size=1, max_size=4, unique=True).map(tuple),
    fusion=st.sampled_from(["unit", "raw"]),
    five_crops=st.booleans(),
    stretch=st.none() | st.tuples(st.floats(-9, 0), st.floats(1, 2**16)),
)


@given(recipes)
def test_text_and_back_is_the_same_recipe(recipe: Recipe) -> None:
    back = Recipe.from_json(recipe.to_json())
    assert back == recipe
    assert back.fingerprint == recipe.fingerprint
    assert recipe.differences(back) == []


@given(recipes, recipes)
def test_fingerprints_are_equal_where_recipes_are(one: Recipe, two: Recipe) -> None:
    assert (one.fingerprint == two.fingerprint) == (one == two) == (not one.differences(two))


def test_every_field_enters_the_fingerprint_and_the_differences() -> None:
    changeable = {field.name for field in dataclasses.fields(Recipe)} - {"filter"}
    assert set(OTHER) == changeable
    for name, value in OTHER.items():
        changed = dataclasses.replace(PLAIN, **{name: value})
        assert changed.fingerprint != PLAIN.fingerprint, name
        (line,) = PLAIN.differences(changed)
        assert line.startswith(f"{name}: "), line


def test_fingerprint_of_a_known_recipe_stays() -> None:
    # A change here orphans every gallery that was made before it.
    assert PLAIN.fingerprint == "b1c76983a4909dc9fda7ee84b5702208e98b3571fc4a461d6aea5bc7cc73b84a"


def test_order_of_scales_and_kind_of_numbers_change_nothing() -> None:
    for scales in itertools.permutations((0.75, 1.0, 1.25)):
        recipe = dataclasses.replace(PLAIN, scales=scales)
        assert recipe == dataclasses.replace(PLAIN, scales=(0.75, 1, 1.25))
        assert recipe.scales == (0.75, 1.0, 1.25)
    whole = dataclasses.replace(PLAIN, mean=[0, 0, 0], std=(1, 1, 1), pixel_range=255)
    real = dataclasses.replace(PLAIN, mean=(-0.0, 0.0, 0.0), std=(1.0,) * 3, pixel_range=255.0)
    assert whole.fingerprint == real.fingerprint


def test_differences_name_both_values_and_shorten_hashes() -> None:
    other = dataclasses.replace(PLAIN, height=384, weights="f" * 64)
    assert PLAIN.differences(other) == [
        "weights: 000000000000... here, ffffffffffff... there",
        "height: 256 here, 384 there",
    ]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"weights": "abc"}, "weights must be a SHA-256"),
        ({"weights": "G" * 64}, "weights must be a SHA-256"),
        ({"weights": None}, "weights must be a SHA-256"),
        ({"height": 0}, "height must be a whole number of pixels"),
        ({"height": 256.0}, "height must be a whole number of pixels"),
        ({"width": True}, "width must be a whole number of pixels"),
        ({"width": 5000}, "from 1 to 4096, not 5000"),
        ({"channels": "RGB"}, "channels must be rgb or bgr, not 'RGB'"),
        ({"filter": "bilinear"}, "filter must be bicubic"),
        ({"fusion": "max"}, "fusion must be unit or raw"),
        ({"letterbox": 1}, "letterbox must be true or false"),
        ({"flip": "yes"}, "flip must be true or false"),
        ({"five_crops": 5}, "five_crops must be true or false"),
        ({"stretch": 5}, "stretch must be two numbers"),
        ({"stretch": (1, 2, 3)}, "stretch must be two numbers"),
        ({"stretch": (7600, 7000)}, "stretch must go from a lower to a higher count"),
        ({"stretch": (1, 1)}, "stretch must go from a lower to a higher count"),
        ({"stretch": (0, float("nan"))}, "stretch must be a finite number"),
        ({"pixel_range": 0}, "pixel_range must be above 0"),
        ({"pixel_range": float("inf")}, "pixel_range must be a finite number"),
        ({"mean": (0.5, 0.5)}, "mean must be three numbers"),
        ({"mean": 0.5}, "mean must be three numbers"),
        ({"mean": (0.5, "a", 0.5)}, "mean must be a finite number"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be above 0"),
        ({"std": (0.5, float("nan"), 0.5)}, "std must be a finite number"),
        ({"scales": ()}, "scales must be a list of at least one"),
        ({"scales": 1.0}, "scales must be a list of at least one"),
        ({"scales": (0.0, 1.0)}, "scales must be above 0"),
        ({"scales": (1.0, 9.0)}, "at most 8"),
        ({"scales": (1, 1.0)}, "names one scale twice"),
    ],
)
def test_a_wrong_value_is_told_by_name(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match="recipe: ") as caught:
        Recipe(**{"weights": "0" * 64, **fields})
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[1]", "must be an object"),
        ("{}", "format None"),
        (PLAIN.to_json().replace('"format":2', '"format":1'), "extract them again"),
        (PLAIN.to_json().replace('"flip"', '"flop"'), "missing ['flip'], unknown ['flop']"),
    ],
)
def test_text_that_is_no_recipe_is_refused(text: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        Recipe.from_json(text)
    assert told in str(caught.value)


def test_fields_from_toml(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('channels = "bgr"\npixel_range = 255\nmean = [0, 0, 0]\nscales = [1.5, 1]\n')
    fields = load_recipe_fields(str(file))
    assert fields == {
        "channels": "bgr",
        "pixel_range": 255.0,
        "mean": (0.0, 0.0, 0.0),
        "scales": (1.0, 1.5),
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("color = 3", "unknown recipe field color; known are height, width, channels"),
        (f'weights = "{"0" * 64}"', "unknown recipe field weights"),
        ("height = ", "this is not TOML"),
        ("height = 0", "recipe: height must be"),
    ],
)
def test_wrong_toml_is_told_with_its_file(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe_fields(str(file))
    assert told in str(caught.value)
    assert str(file) in str(caught.value)


def test_toml_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.toml: no such file"):
        load_recipe_fields(str(tmp_path / "absent.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"bytes.toml: this is not text in UTF-8"):
        load_recipe_fields(str(tmp_path / "bytes.toml"))


def test_a_recipe_without_a_stretch_keeps_the_text_that_it_had() -> None:
    assert "stretch" not in PLAIN.to_json()
    stretched = dataclasses.replace(PLAIN, stretch=(7000, 7600))
    assert stretched.fingerprint != PLAIN.fingerprint
