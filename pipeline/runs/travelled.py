"""What travel times do to a run. Imports nothing heavy: the command line reads it first."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.core.identities.clustering import Agreement

LEARNED = "learned"
"""Stands for the travel times that were learned of the gallery."""


@dataclass(frozen=True)
class ListEffect:
    """Lists of the `k` best rows of other cameras, for `queries` rows of known identity: the share
    of their rows that show the person, and of lists that begin with such a row; with travel times
    and without.
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

    True pairs are those of some whole identities (10,000 rows at most). `rows_unknown` have no
    camera or no time, and are excluded nowhere. `without` compares groups that ignore travel times
    with the known identities, and `lists` tells what becomes of searches; None where it was not
    measured.
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
    """How travel times are learned from pairs of rows of certain similarity."""

    k: int = 5
    """Neighbors of each row that are considered."""
    certainty: float = 0.98
    """Wanted precision of the groups that the pairs make (see link)."""
    fewest: int = 10
    """Pairs that a way between two cameras rests on at least."""

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
    """Travel times as they were stored: on how many links they rest, and what they exclude.

    From one camera to another there are `ways`; some pairs are `unreachable`, and of others there
    are too few links to know. `effect` compares them with known identities, where there are any.
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
