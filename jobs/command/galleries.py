"""The galleries that a verb reads as one, each at its version."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.errors import InputError
from pipeline.runs.times import parse_time

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from pipeline.gallery.table import Gallery


def open_galleries(
    locations: Sequence[str],
    versions: Sequence[int] = (),
    at: str | None = None,
    flags: tuple[str, str] = ("--version", "--at"),
) -> "list[Gallery]":
    """Each gallery at its version, or all of them at a time; the latest by default.

    `flags` are the names of those that give versions and the time.
    """
    from pipeline.gallery.table import Gallery

    if not locations:
        raise InputError("--gallery is missing: give the gallery, or several")
    if versions and len(versions) != len(locations):
        raise InputError(
            f"{flags[0]} is given {len(versions)} times for {len(locations)} galleries: give one"
            " for each, in the same order, or none"
        )
    moment = parse_time(flags[1], at)
    chosen: Sequence[int | None] = versions or [None] * len(locations)
    return [Gallery.open(*each, moment) for each in zip(locations, chosen, strict=True)]
