"""The settings that a gallery is made with, compared with the existing gallery."""

import logging
from dataclasses import dataclass, replace
from typing import Any

from pipeline.archive.listing.source import Listing
from pipeline.errors import InputError
from pipeline.gallery import opening
from pipeline.gallery.copies import copied_how
from pipeline.gallery.derived import derivation
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.table import Gallery
from pipeline.model.feature_models import FeatureModel, FileModel
from pipeline.model.imported import ImportedRecipe, read_recipe
from pipeline.model.networks import NetworkFile, start_recipe
from pipeline.model.recipe import Recipe, load_recipe_fields
from pipeline.runs.settings import RecipeSettings, stated

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GallerySpec:
    """The location of a gallery, and all settings that its features and labels depend on."""

    location: str
    model: FeatureModel
    layout: str
    precision: str
    storage: str | None
    """None means that of an existing gallery, or float32 for a new one."""

    @property
    def recipe(self) -> Recipe | ImportedRecipe:
        """The recipe that the gallery will store."""
        return self.model.recipe

    def check(self, present: Gallery) -> None:
        """Refuse to mix features or labels of two kinds in one gallery."""
        if (how := derivation(present)) is not None:
            raise InputError(
                f"{present.location} is {how}: extract into {how.parent}, then make it again"
            )
        if (made := copied_how(present)) is not None:
            raise InputError(
                f"{present.location} is {made}: extract into the galleries that its rows come from,"
                " then make it again"
            )
        if self.recipe.fingerprint != present.fingerprint:
            held = read_recipe(present.recipe_json)
            different = "; ".join(held.differences(self.recipe))
            hint = "" if present.count else ", or delete this one: it holds no row"
            raise InputError(
                f"{present.location} was made with another recipe ({different}):"
                f" features of two recipes are never mixed; give a new gallery{hint}"
            )
        if self.layout != present.properties["layout"]:
            raise InputError(
                f"{present.location} was made with the layout {present.properties['layout']}, not"
                f" {self.layout}: labels of two layouts are never mixed; give a new gallery"
            )
        if self.precision != present.properties["precision"]:
            raise InputError(
                f"{present.location} was made with the precision {present.properties['precision']},"
                f" not {self.precision}: the features would differ; give a new gallery"
            )
        if self.storage not in (None, present.dtype):
            raise InputError(
                f"{present.location} stores {present.dtype}, not {self.storage}; give a new gallery"
            )

    def check_source(self, present: Gallery, listing: Listing) -> None:
        """Refuse a second source: a row is identified by its path below the first."""
        held = present.properties["source"]
        if held != listing.root:
            raise InputError(
                f"{present.location} holds the images of {held}, named by their paths there: give"
                f" that source, or a new gallery for {listing.root}"
            )

    def dimension(self, batch_size: int) -> int:
        """Load the network once before any work: a network that cannot run fails at once."""
        return self.model.load(batch_size=batch_size).dimension

    def create(self, dimension: int, source: str, lock: Lock) -> None:
        """Make the gallery, empty."""
        Gallery.create(
            self.location,
            recipe_json=self.recipe.to_json(),
            fingerprint=self.recipe.fingerprint,
            dimension=dimension,
            dtype=self.storage or "float32",
            source=source,
            layout=self.layout,
            precision=self.precision,
            lock=lock,
        )


def gallery_spec(
    location: str,
    network: NetworkFile,
    settings: RecipeSettings,
    layout: str,
    precision: str,
    storage: str | None,
) -> GallerySpec:
    """The gallery that these settings describe; raise InputError if one of another kind exists.

    The recipe takes each field from the first source that has it: the settings, the recipe file, an
    existing gallery of the same weights (then only the hash of the network is read), the network's
    file (which is logged), and the defaults.
    """
    fields = given_fields(settings)
    present = Gallery.open(location) if opening.exists(location) else None
    held = None if present is None else read_recipe(present.recipe_json)
    if isinstance(held, Recipe) and held.weights == network.weights_hash():
        recipe = replace(held, **fields)
    else:
        start = start_recipe(network, fields)
        recipe = start.recipe
        if start.remark is not None:
            level = logging.WARNING if start.contradicted else logging.INFO
            _log.log(level, "%s: %s", network.given[0], start.remark)
    spec = GallerySpec(location, FileModel(network, recipe), layout, precision, storage)
    if present is not None:
        spec.check(present)
    return spec


def given_fields(settings: RecipeSettings) -> dict[str, Any]:
    """The fields of a recipe that settings state: those of its file, and then its own."""
    fields = load_recipe_fields(settings.recipe) if settings.recipe else {}
    return fields | stated(settings, without=("recipe",))
