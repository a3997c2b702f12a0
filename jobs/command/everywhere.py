"""What rows that are gone left elsewhere: told after a purge, and purged where it is reached."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import InputError, RunError

if TYPE_CHECKING:  # imported where they are used, so that --help answers at once
    from pipeline.gallery.outputs import Output
    from pipeline.gallery.table import Gallery


@dataclass(frozen=True)
class Followed:
    """Something that was made from a gallery, and may hold rows that are gone from it.

    `removed` where it was deleted, or purged if it is a gallery; otherwise it stays for a `reason`.
    """

    kind: str
    place: str
    host: str
    version: int
    removed: bool
    reason: str


def follow(gallery: "Gallery", outputs: "tuple[Output, ...]", *, purge: bool) -> list[Followed]:
    """Tell what may still hold rows that a purge removed; with `purge`, purge what can be reached.

    Of an expanded gallery, what was made from it is followed too.
    """
    found = []
    for output in outputs:
        reason: str | None = ""
        if purge:
            reason, others = _purge(gallery, output)
            found += others
        found.append(
            Followed(
                kind=output.kind,
                place=str(output.place),
                host=output.host,
                version=output.version,
                removed=reason is None,
                reason=reason or "",
            )
        )
    return found


def _purge(gallery: "Gallery", output: "Output") -> tuple[str | None, list[Followed]]:
    """Why an output could not be purged, None where it was; and what was made from it."""
    from pipeline.gallery.outputs import EXPANDED, remove

    if output.kind == EXPANDED:
        try:
            return None, _expand_again(gallery, str(output.place))
        except (InputError, RunError) as error:
            return str(error), []
    if output.is_gallery:
        return "a gallery of its own: erase the rows there in the same way", []
    return remove(output), []


def _expand_again(gallery: "Gallery", place: str) -> list[Followed]:
    """Bring an expanded gallery up to date, so that no mean holds the rows, and purge it."""
    from jobs.expand import expand
    from pipeline.gallery.derived import derivation
    from pipeline.gallery.table import Gallery, lock_gallery
    from pipeline.gallery.upkeep import purge as purging

    derived = Gallery.open(place)
    held = derivation(derived)
    if held is None or held.parent != gallery.location:
        raise InputError(f"{place} is no longer expanded from {gallery.location}")
    if gallery.count:
        expand(gallery=gallery.location, out=place, **held.parameters)  # type: ignore[arg-type]
    with lock_gallery(place, f"erase --everywhere of {gallery.location}") as lock:
        after = Gallery.open(place)
        if not gallery.count:
            run = f"erase-{after.version}-everywhere"
            after = after.commit([], run_id=run, removes=after.row_ids(), lock=lock)
        purged = purging.purge(after, lock)
    return follow(after, purged.outputs, purge=True)


def told(followed: list[Followed]) -> list[str]:
    """A line for each, and what to do about those that stay."""
    lines = []
    for each in followed:
        what = f"{each.kind} {each.place} (made from version {each.version})"
        if each.removed:
            done = "purged" if each.kind.endswith("gallery") else "deleted"
            lines.append(f"{done} too: {what}")
        else:
            reason = f": {each.reason}" if each.reason else ""
            lines.append(f"STILL THERE, and may hold the rows: {what}{reason}")
    left = [each for each in followed if not each.removed]
    if any(not each.reason for each in left):
        lines.append("--purge --everywhere removes those that it can reach")
    elif left:
        lines.append("remove those yourself; the next purge tells whether they are gone")
    return lines
