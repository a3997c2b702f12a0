import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.model.imported import ImportedRecipe, read_recipe
from pipeline.model.recipe import Recipe


@given(st.text(min_size=1).filter(str.strip), st.integers(1, 4096))
def test_what_is_written_is_read(name, dimension):
    recipe = ImportedRecipe(name, dimension)
    assert read_recipe(recipe.to_json()) == recipe
    assert read_recipe(recipe.to_json()).fingerprint == recipe.fingerprint


def test_name_and_dimension_decide():
    prints = {
        recipe.fingerprint
        for recipe in (ImportedRecipe("a", 8), ImportedRecipe("a", 9), ImportedRecipe("b", 8))
    }
    assert len(prints) == 3


def test_recipes_of_networks_are_read_too():
    recipe = Recipe(weights="1" * 64, flip=True)
    assert read_recipe(recipe.to_json()) == recipe


def test_differences_are_told_both_ways():
    extracted, imported = Recipe(weights="1" * 64), ImportedRecipe("mine", 8)
    weights = extracted.differences(imported)[0]
    assert weights.startswith("weights: ") and weights.endswith(" here, none there")
    assert extracted.differences(imported)[1:] == ["imported: none here, mine there"]
    assert imported.differences(extracted)[0] == "imported: mine here, none there"
    assert imported.differences(ImportedRecipe("mine", 8)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "this is not JSON"),
        ("[1]", "must be an object"),
        ('{"imported": "x", "dimension": 8, "format": 2}', "in a format that is not 1"),
        ('{"imported": "x", "format": 1}', "in a format that is not 1"),
        ('{"imported": "", "dimension": 8, "format": 1}', "`made_by` is empty"),
    ],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        read_recipe(text)
