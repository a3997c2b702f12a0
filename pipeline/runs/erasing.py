"""Erase selected rows, and purge them, with what was made from them."""

from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.gallery.irregular import check_regular
from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep import purge as purging
from pipeline.gallery.upkeep.erase import erase
from pipeline.gallery.upkeep.purge import Purged
from pipeline.gallery.upkeep.selection import Selected
from pipeline.runs.outcomes import Followed


@dataclass(frozen=True)
class ErasedRows:
    """The gallery after an erasure, what a purge removed (None without one), and the outputs that
    may still hold what was erased.
    """

    gallery: Gallery
    purged: Purged | None
    followed: tuple[Followed, ...]
    is_purge_resumed: bool


def erase_rows(
    before: Gallery, found: Selected | None, *, purge: bool = False, everywhere: bool = False
) -> ErasedRows:
    """Remove the selected rows and rejects from the latest version, `before`.

    With `purge`, the older versions and all their bytes are removed, too; with `everywhere`, also
    the outputs made from them, if they can be reached. Without `found`, only rows that were erased
    earlier are purged. Raise InputError for `everywhere` without `purge`, and RunError if the
    gallery has a newer version.
    """
    if everywhere and not purge:
        raise InputError("`everywhere` goes with `purge`")
    resumed, done = purging.is_under_way(before.location), None
    if purge:
        check_regular(before.location)
    with lock_gallery(before.location, "erase") as held:
        before.check_latest()  # what was selected is what goes
        after = erase(before, found, held) if found else before
        done = purging.purge(after, held) if purge else None
    followed: tuple[Followed, ...] = ()
    if done and done.outputs:
        from pipeline.runs.everywhere import follow  # loads what makes outputs, torch with it

        followed = tuple(follow(after, done.outputs, purge=everywhere))
    return ErasedRows(after, done, followed, resumed and purge)
