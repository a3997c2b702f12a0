"""The initial recipe of a network, and the source of each of its fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.model.input.opening import Opening
from pipeline.model.recipe import Recipe

Source = Literal["given", "the file", "its toolbox", "assumed", "default"]
PREPARED = ("channels", "pixel_range", "mean", "std")
"""The fields that control how pixels become numbers."""

OF_TRAINING = ("height", "width", *PREPARED, "letterbox", "filter")
"""The fields that must be as in training; the others are choices of how to run the network."""


@dataclass(frozen=True)
class Start:
    """The initial recipe of a network.

    `sources` gives the origin of every field of the recipe: `given`, `the file`, `its toolbox` (the
    training settings of a network that is built here), `assumed` (the training setting is unknown),
    or `default` (a choice of how to run it).
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
        """A sentence on what the network's first operations mean for the recipe; None if nothing.

        If the recipe contradicts them, the sentence says so.
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
