"""The recipe that a network starts from, and where each of its fields is from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.model.input.opening import Opening
from pipeline.model.recipe import Recipe

Source = Literal["given", "the file", "its toolbox", "assumed", "default"]
PREPARED = ("channels", "pixel_range", "mean", "std")
"""The fields of how pixels become numbers."""

OF_TRAINING = ("height", "width", *PREPARED, "letterbox", "filter")
"""The fields that must be as the network was trained; the others are choices of how to run it."""


@dataclass(frozen=True)
class Start:
    """A recipe that a network starts from.

    `sources` says of every field of the recipe where its value is from: `given`, `the file`, `its
    toolbox` (what the toolbox of a network that is built here trains with), `assumed` (nothing
    says what the network was trained with), or `default` (a choice of how to run it).
    """

    recipe: Recipe
    sources: Mapping[str, Source]
    opening: Opening

    @property
    def contradicted(self) -> list[str]:
        """The fields of the recipe that contradict the network's first operations."""
        implied = self.opening.fields
        return [name for name in implied if getattr(self.recipe, name) != implied[name]]

    @property
    def remark(self) -> str | None:
        """What the network's first operations mean for the recipe, in a sentence; None if nothing.

        A recipe that contradicts them is named as what it is.
        """
        told, fields = self.opening.text, self.opening.fields
        if not fields and told:
            return f"the network begins with {told}, from which no recipe follows"
        if not fields:
            return None
        begins = (
            f"the network begins with {told}: it prepares its input by itself"
            if told
            else "the network takes whole levels (uint8)"
        )
        implied = ", ".join(f"`{name}` {_shown(value)}" for name, value in fields.items())
        if self.contradicted:
            return (
                f"{begins}, which wants {implied}; but the recipe has other "
                f"{', '.join(f'`{name}`' for name in self.contradicted)}: its input will be "
                "prepared twice"
            )
        return f"{begins}, so the recipe has {implied}"


def _shown(value: Any) -> str:
    values = value if isinstance(value, tuple) else (value,)
    return " ".join(each if isinstance(each, str) else f"{each:g}" for each in values)
