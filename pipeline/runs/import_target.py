"""The gallery that an import makes; the user or an export names its maker."""

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, RunError
from pipeline.gallery import opening
from pipeline.gallery.derived import derived_fingerprint
from pipeline.gallery.formats.origin import ORIGIN_FILE, FeatureOrigin, is_exported, origin_of
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.outputs import listed_in_galleries
from pipeline.gallery.table import Gallery
from pipeline.model.imported import ImportedRecipe, read_recipe

_log = logging.getLogger(__name__)


def maker_of(source: Path, part: str, made_by: str | None) -> FeatureOrigin | str:
    """The maker of the features: the user names it, or the export that wrote them.

    Raise `InputError` if neither does, or if the features have changed since their export.
    """
    if made_by is None:
        return origin_of(source, part)
    if is_exported(source):
        _log.info(
            "an export wrote %s: leave out `made_by` to keep the recipe of its gallery", source
        )
    return made_by


def properties_of(
    made: FeatureOrigin | str, dimension: int, source: Path, layout: str, storage: str | None
) -> dict[str, Any]:
    """The arguments of `Gallery.create` for imported features, taken from their export if there is
    one.

    Raise `InputError` for an export whose recipe, fingerprint and dimension do not fit.
    """
    if isinstance(made, str):
        recipe = ImportedRecipe(made, dimension)
        return {
            "recipe_json": recipe.to_json(),
            "fingerprint": recipe.fingerprint,
            "dimension": dimension,
            "dtype": storage or "float32",
            "source": str(source.absolute()),
            "layout": layout,
        }
    fingerprint = read_recipe(made.recipe).fingerprint
    if made.derived:
        parameters = {name: value for name, value in made.derived.items() if name != "parent"}
        fingerprint = derived_fingerprint(fingerprint, parameters)
    if (fingerprint, dimension) != (made.fingerprint, made.dimension):
        raise InputError(
            f"{source.with_name(ORIGIN_FILE)}: its recipe, fingerprint and dimension do not fit"
            " each other: export again"
        )
    has_rows = source.suffix in (".npy", ".faiss")  # and so the paths below its source
    return {
        "recipe_json": made.recipe,
        "fingerprint": fingerprint,
        "dimension": dimension,
        "dtype": storage or made.storage,
        "source": made.source if has_rows else str(source.absolute()),
        "layout": made.layout if has_rows else layout,
        "precision": made.precision,
        "derived": made.derived,
    }


def open_target(gallery: str, about: dict[str, Any], lock: Lock) -> Gallery:
    """The gallery to import into: a new one, that of an interrupted import, or the finished one.

    Raise `InputError` for a gallery of another kind.
    """
    if not opening.exists(gallery):
        return Gallery.create(gallery, **about, lock=lock)
    present = Gallery.open(gallery)
    held = {"dtype": present.dtype, "fingerprint": present.fingerprint, **present.properties}
    if any(held[name] != about[name] for name in ("fingerprint", "dtype", "layout", "source")):
        raise InputError(f"{gallery}: there is a gallery already; import makes a new one")
    return present


def listed_copy(origin: FeatureOrigin | None, location: str) -> AbstractContextManager[None]:
    """List a copy with the gallery that was exported, if that is still there."""
    if origin is None:
        return nullcontext()
    try:
        exported = Gallery.open(origin.gallery, origin.version)
    except (InputError, RunError) as error:
        _log.warning(
            "a purge of %s would not know of %s, which may hold rows that were erased there: %s",
            origin.gallery,
            location,
            error,
        )
        return nullcontext()
    return listed_in_galleries("imported gallery", location, [exported])
