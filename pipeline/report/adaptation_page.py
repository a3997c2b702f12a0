"""The report of an adaptation as one self-contained page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.report.templates import fill_template


@dataclass(frozen=True)
class PicturedCluster:
    """A cluster of the last round: its number of rows and of cameras, and some of its crops."""

    rows: int
    cameras: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class RankedHit:
    """A row in a ranked list; `match` says whether it shows the query's person, None if unknown."""

    path: str
    camera: str | None
    score: float
    match: bool | None


@dataclass(frozen=True)
class BeforeAfter:
    """One row as a query, and its best rows of other cameras with the first and last network."""

    path: str
    camera: str | None
    before: tuple[RankedHit, ...]
    after: tuple[RankedHit, ...]


@dataclass(frozen=True)
class RoundLine:
    """One round in numbers; `agreement` is B-cubed precision, recall and F, or None."""

    number: int
    rows: int
    clusters: int
    noise: int
    cameras: float
    eps: float
    curve: tuple[tuple[float, int], ...]
    agreement: tuple[float, float, float] | None
    losses: Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class AdaptationReport:
    """All that the page shows; `outcome` is a sentence, `mean_ap` another one or None."""

    source: str
    network: str
    accepted: bool
    outcome: str
    mean_ap: str | None
    rounds: Sequence[RoundLine]
    clusters: Sequence[PicturedCluster]
    lists: Sequence[BeforeAfter]


def render_adaptation(found: AdaptationReport, pictures: Mapping[str, str]) -> str:
    """Make the page; `pictures` are the `thumbnails.thumbnail` of crops by path.

    A crop without a picture shows a placeholder. The page loads nothing from the network, and the
    same input gives the same bytes.
    """
    losses = sorted({name for each in found.rounds for some in each.losses for name in some})
    return fill_template("adaptation.html", found=found, pictures=pictures, losses=losses)
