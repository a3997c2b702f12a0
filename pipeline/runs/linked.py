"""Settings and result of linking. Imports nothing heavy: the command line reads it first."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError
from pipeline.runs.selection import RowFilter

if TYPE_CHECKING:
    from pipeline.core.identities.clustering import Agreement
    from pipeline.core.identities.precision import Estimate
    from pipeline.runs.travelled import TravelEffect

TABLE_SUFFIXES = (".parquet", ".csv")
"""Suffixes that the file of identity candidates may have."""

PRECISION = 0.9
"""The target precision of groups if no threshold is given."""


# A group is out of proportion if it has this share of all rows and this many times the rows of the
# next.
_LARGE, _LARGER, _FEWEST_ROWS = 0.1, 2.0, 20


@dataclass(frozen=True)
class LinkSettings:
    """Which rows are linked: mutual neighbors whose similarity reaches a threshold."""

    k: int = 20
    """Neighbors of each row that are considered for links."""
    threshold: float | None = None
    """Least similarity of a link (default: estimated from the group precision)."""
    group_precision: float | None = None
    """Wanted precision of the groups, from which the threshold is estimated: the share of a row's
    group that is the same person, averaged over rows (default: 0.9)."""

    travel_times: str | None = None
    """File of travel times between cameras, or `learned`: rows that nobody can have walked between
    are not linked."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"`k` must be at least 1, not {self.k}")
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise InputError(
                f"`threshold` is a cosine similarity from -1 to 1, not {self.threshold}"
            )
        if self.group_precision is not None and not 0 < self.group_precision < 1:
            raise InputError(f"`group_precision` lies between 0 and 1, not {self.group_precision}")
        if self.threshold is not None and self.group_precision is not None:
            raise InputError("give `threshold` or `group_precision`, not both")

    @property
    def target_precision(self) -> float:
        """The target precision of groups."""
        return PRECISION if self.group_precision is None else self.group_precision


def stored_settings(settings: LinkSettings, select: RowFilter) -> dict[str, Any]:
    """The settings, besides the gallery, that links depend on, as the file of candidates stores
    them.
    """
    where = select.where if select == RowFilter(select.where) else str(select)
    return {"settings": asdict(settings), "where": where}


@dataclass(frozen=True)
class VerdictsUsed:
    """How many verdicts a link has kept: pairs in one group (`same`), and in two (`different`).

    `overruled` of the same ones are on two rows of one camera and one moment, who would otherwise
    be two people.
    """

    same: int
    different: int
    overruled: int


@dataclass(frozen=True)
class Linked:
    """The identity candidates of a gallery.

    `rows_linked` counts all rows but the `junk`, which is left out. `candidates` are groups of two
    rows or more, `alone` the rows in none, `largest` and `second_largest` the rows of the largest
    two. `links` are the mutual neighbors that reach the threshold, `refused` those that would have
    joined two crops of one camera at one time, or that travel times or verdicts forbid; `travel`
    says what travel times exclude, None without, and `verdicts_used` counts verdicts. `estimate` is
    the precision of groups at the threshold that was found by it; `agreement` compares the groups
    with the known identities.
    """

    gallery: str
    version: int
    out: Path
    k: int
    threshold: float
    threshold_from: str
    estimate: "Estimate | None"
    rows_linked: int
    junk: int
    links: int
    refused: int
    candidates: int
    alone: int
    largest: int
    second_largest: int
    agreement: "Agreement | None"
    travel: "TravelEffect | None" = None
    verdicts_used: VerdictsUsed = VerdictsUsed(0, 0, 0)
    products: dict[str, int | float] = field(compare=False, default_factory=dict)

    @property
    def out_of_proportion(self) -> bool:
        """Whether the largest group is so much larger than all others that it may be several."""
        return (
            self.largest >= max(_FEWEST_ROWS, _LARGE * self.rows_linked)
            and self.largest >= _LARGER * self.second_largest
        )
