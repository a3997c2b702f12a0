"""Galleries for the tests of the service."""

from pipeline.gallery.table import Gallery
from pipeline.model.recipe import Recipe
from tests.gallery.making import DIMENSION, unit


def plain_gallery(location, row_ids):
    """A gallery of these rows (see `tests.gallery.making.unit`), of a recipe that can be read."""
    recipe = Recipe(weights="0" * 64)
    empty = Gallery.create(
        str(location), recipe_json=recipe.to_json(), fingerprint=recipe.fingerprint,
        dimension=DIMENSION, source="/archive", layout="market1501",
    )  # fmt: skip
    return empty.commit([unit(empty.target, row_ids)], run_id="first")
