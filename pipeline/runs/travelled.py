"""Results and settings of travel times. Imports nothing heavy: the command line reads it first."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.core.identities.clustering import Agreement

LEARNED = "learned"
"""Stands for the travel times that were learned of the gallery."""


@dataclass(frozen=True)
class ListEffect:
    """Precision and rank-1 of the lists of the `k` best rows of other cameras, for `queries` rows
    of known identity, with travel times and without.

    Precision is the share of listed rows that show the person, and rank-1 the share of lists that
    begin with such a row.
    """

    queries: int
    k: int
    precision: float
    precision_without: float
    rank1: float
    rank1_without: float


@dataclass(frozen=True)
class TravelEffect:
    """What travel times exclude: of all `pairs` of rows, and of the `true_pairs` of one identity.

    True pairs are counted in some whole identities (10,000 rows at most). `rows_unknown` is the
    number of rows without a camera or a time, which are never excluded. `without` compares groups
    that ignore travel times with the known identities, and `lists` shows the effect on searches;
    both are None if they were not measured.
    """

    origin: str
    pairs: int
    pairs_excluded: int
    true_pairs: int
    true_pairs_excluded: int
    rows_unknown: int
    without: "Agreement | None" = None
    lists: "ListEffect | None" = None


@dataclass(frozen=True)
class TravelSettings:
    """How travel times are learned from pairs of rows that are almost certainly one person."""

    k: int = 5
    """Neighbors of each row that are considered."""
    certainty: float = 0.98
    """Precision that the groups of these pairs must have (see link)."""
    fewest: int = 10
    """The least number of pairs between two cameras that sets a limit."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"`k` must be at least 1, not {self.k}")
        if not 0 < self.certainty < 1:
            raise InputError(f"`certainty` lies between 0 and 1, not {self.certainty}")
        if self.fewest < 2:
            raise InputError(f"`fewest` must be at least 2, not {self.fewest}")


TRAVEL = TravelSettings()
"""The defaults."""


@dataclass(frozen=True)
class TravelLearned:
    """The stored travel times: the number of links behind them, and what they exclude.

    `ways` counts pairs of cameras with limits, `unreachable` those that nobody walks, and `unknown`
    those with too few links. `effect` compares the times with known identities, if there are any.
    """

    gallery: str
    version: int
    threshold: float
    threshold_from: str
    links: int
    ways: int
    unreachable: int
    unknown: int
    effect: TravelEffect
    file: str
