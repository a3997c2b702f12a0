"""The recipe of features that another tool made: only the user's statement about it is known."""

import hashlib
import json
from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.input_files import parse_json
from pipeline.model.recipe import Recipe, differences

_FORMAT = 1


@dataclass(frozen=True)
class ImportedRecipe:
    """The maker of imported features, in the importer's words, and their dimension.

    Two such recipes compare only if both fields are equal, and never with extracted features. Raise
    InputError for an empty name.

    >>> ImportedRecipe("fast-reid bagtricks_R50", 2048).differences(ImportedRecipe("mine", 2048))
    ['imported: fast-reid bagtricks_R50 here, mine there']
    """

    imported: str
    dimension: int

    def __post_init__(self) -> None:
        if not self.imported.strip():
            raise InputError("`made_by` is empty: name the network and tool that made the features")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `to_json()`, 64 hex digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The recipe as canonical JSON; `read_recipe` reads it."""
        fields = {"format": _FORMAT, "imported": self.imported, "dimension": self.dimension}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    def differences(self, other: "Recipe | ImportedRecipe") -> list[str]:
        """List every difference between the two recipes, with both values; empty if they are
        equal.
        """
        return differences(self, other)


def read_recipe(text: str) -> Recipe | ImportedRecipe:
    """Read the recipe of a gallery from its JSON text: that of a network, or of imported features.

    Raise InputError if the text is neither.

    >>> read_recipe(ImportedRecipe("mine", 8).to_json())
    ImportedRecipe(imported='mine', dimension=8)
    """
    try:
        fields = parse_json(text)
    except ValueError as error:
        raise InputError(f"recipe: this is not JSON ({error})") from error
    if not isinstance(fields, dict) or "imported" not in fields:
        return Recipe.from_json(text)
    if fields.keys() != {"format", "imported", "dimension"} or fields["format"] != _FORMAT:
        raise InputError(f"recipe: of imported features, in a format that is not {_FORMAT}")
    made_by, dimension = fields["imported"], fields["dimension"]
    if not isinstance(made_by, str) or not isinstance(dimension, int):
        raise InputError("recipe: of imported features, without their maker or dimension")
    return ImportedRecipe(made_by, dimension)
