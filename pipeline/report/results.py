"""The result of an evaluation: the content of report.json, and the source of the page.

`plain(report)` is the content of report.json, which docs/report.schema.json describes key by key.
Every share (mAP, CMC, AP, INP) is a fraction from 0 to 1, never a percentage; an undefined one is
NaN here and null there. Contradictory values raise ValueError on creation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from math import isnan
from typing import Any, Final, Literal

from pipeline.core.evaluation.bootstrap import Bootstrap, Interval
from pipeline.core.evaluation.by_camera import CameraFigures, PairFigures
from pipeline.core.evaluation.metrics import Summary
from pipeline.core.evaluation.single_shot import SingleShot
from pipeline.core.expansion import ExpansionMode
from pipeline.core.thresholds.open_set import OpenSet

SCHEMA: Final = 3

RANKS = (1, 5, 10, 20)
"""The ranks whose CMC is given by name."""

Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class QuerySet:
    """The query table as it was read: `rejects` by reason, `identities` above 0.

    `expanded` says how its features were made from those of another gallery; None if they were not.
    """

    location: str
    version: int
    rows: int
    rejects: Mapping[str, int]
    identities: int
    cameras: int
    expanded: str | None


@dataclass(frozen=True)
class GallerySet(QuerySet):
    """The gallery table as it was read: rows of identity 0 are distractors, rows of -1 are junk."""

    distractors: int
    junk: int


@dataclass(frozen=True)
class Protocol:
    """The lists behind the CMC: whole lists, or `repeats` draws of one image per identity."""

    name: Literal["market1501", "cuhk03"]
    repeats: int | None
    seed: int | None

    @classmethod
    def of(cls, draws: SingleShot | None) -> "Protocol":
        """The protocol with these draws."""
        if draws is None:
            return cls("market1501", None, None)
        return cls("cuhk03", draws.repeats, draws.seed)


@dataclass(frozen=True)
class Intervals:
    """Confidence intervals of the means over valid queries."""

    mean_ap: Interval = field(metadata={"json": "mAP"})
    rank1: Interval


@dataclass(frozen=True)
class Gains:
    """Confidence intervals of the gain of each mean over the first result's, from -1 to 1."""

    mean_ap: Interval = field(metadata={"json": "mAP"})
    rank1: Interval
    mean_inp: Interval = field(metadata={"json": "mINP"})


@dataclass(frozen=True)
class RankingResult:
    """The figures of one way to rank.

    `rank` is the CMC at some ranks, None past the end of the curve. `cmc_cut` is the length of the
    curve if the gallery was too short for the requested one. `open_set` and `camera_pairs` are None
    if they were not requested, or are not defined.
    """

    name: str
    mode: ExpansionMode | None
    parameters: Mapping[str, Scalar]
    queries: int
    valid: int
    invalid: int
    rank: Mapping[str, float | None]
    cmc: tuple[float, ...]
    cmc_cut: int | None
    mean_ap: float = field(metadata={"json": "mAP"})
    mean_ap_trapezoid: float = field(metadata={"json": "mAP_trapezoid"})
    mean_inp: float = field(metadata={"json": "mINP"})
    intervals: Intervals | None
    gains: Gains | None
    open_set: OpenSet | None
    query_cameras: tuple[CameraFigures, ...]
    camera_pairs: tuple[PairFigures, ...] | None
    seconds: float

    @classmethod
    def of(cls, summary: Summary, max_rank: int, **others: Any) -> "RankingResult":
        """The figures of a summary, with the requested curve length `max_rank` and the `others`."""
        curve = tuple(summary.cmc.tolist()) if summary.valid else ()
        return cls(
            queries=summary.queries,
            valid=summary.valid,
            invalid=summary.invalid,
            rank={str(r): curve[r - 1] if r <= len(curve) else None for r in RANKS},
            cmc=curve,
            cmc_cut=len(curve) if 0 < len(curve) < max_rank else None,
            mean_ap=summary.mean_ap,
            mean_ap_trapezoid=summary.mean_ap_trapezoid,
            mean_inp=summary.mean_inp,
            **others,
        )

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable():
            raise ValueError(f"the name of a result must be printable text, not {self.name!r}")
        if self.valid + self.invalid != self.queries:
            raise ValueError(
                f"{self.name}: {self.valid} valid + {self.invalid} invalid are not"
                f" {self.queries} queries"
            )
        if bool(self.cmc) != bool(self.valid):
            raise ValueError(f"{self.name}: there is a CMC curve exactly where a query is valid")
        if any(later < earlier for earlier, later in pairwise(self.cmc)):
            raise ValueError(f"{self.name}: a CMC curve never falls")
        means = (self.mean_ap, self.mean_ap_trapezoid, self.mean_inp)
        if {isnan(mean) for mean in means} != {not self.valid}:
            raise ValueError(f"{self.name}: a mean is NaN exactly where no query is valid")
        self._check_cameras()

    def _check_cameras(self) -> None:
        valid = sum(each.valid for each in self.query_cameras)
        queries = sum(each.queries for each in self.query_cameras)
        if (queries, valid) != (self.queries, self.valid):
            raise ValueError(
                f"{self.name}: its cameras have {valid} valid of {queries} queries, yet there are"
                f" {self.valid} of {self.queries}"
            )
        if len({each.camera for each in self.query_cameras}) < len(self.query_cameras):
            raise ValueError(f"{self.name} names a camera twice")
        pairs = [(each.query_camera, each.gallery_camera) for each in self.camera_pairs or ()]
        if len(set(pairs)) < len(pairs):
            raise ValueError(f"{self.name} names a pair of cameras twice")


@dataclass(frozen=True)
class Crop:
    """A row of the query table or of the gallery."""

    path: str
    identity: int | None
    camera: str | None


@dataclass(frozen=True)
class ListHit(Crop):
    """One gallery row of a ranked list, with its similarity to the query, `score`.

    `distance` is the final distance in a re-ranked list, which is ordered by it; otherwise None.
    """

    score: float
    distance: float | None
    match: bool


@dataclass(frozen=True)
class ListEntry:
    """One valid query with the top of its ranked list, best first, without junk.

    `ap` is non-interpolated; `matches` is the number of matching rows in the whole gallery.
    """

    query: Crop
    ap: float
    inp: float
    first_match_rank: int
    matches: int
    list: "tuple[ListHit, ...]"


@dataclass(frozen=True)
class Ranked:
    """Ranked lists of some valid queries under the result named `result`, chosen by AP."""

    result: str
    best: tuple[ListEntry, ...]
    median: tuple[ListEntry, ...]
    worst: tuple[ListEntry, ...]

    @property
    def entries(self) -> tuple[ListEntry, ...]:
        """All entries."""
        return self.best + self.median + self.worst

    @property
    def by_distance(self) -> bool:
        """Whether the lists were re-ranked, so that final distances order them."""
        return any(hit.distance is not None for entry in self.entries for hit in entry.list)


@dataclass(frozen=True)
class Report:
    """A whole evaluation. Gains count from the first result.

    `created` is ISO 8601 with its offset from UTC, `regallery` is our version, and `command` is the
    command that makes the same report again (None if unknown). `recipe` is shown unchanged.
    """

    schema: Literal[3] = field(init=False, default=SCHEMA)
    created: str
    regallery: str
    command: str | None
    query: QuerySet
    gallery: GallerySet
    recipe: Mapping[str, Any]
    dimension: int
    storage: str
    settings: Mapping[str, Scalar]
    protocol: Protocol
    bootstrap: Bootstrap | None
    results: tuple[RankingResult, ...]
    ranked: Ranked | None

    def __post_init__(self) -> None:
        if datetime.fromisoformat(self.created).tzinfo is None:
            raise ValueError(f"the time {self.created} lacks its offset from UTC")
        names = [result.name for result in self.results]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"the results of a report have different names, not {names}")
        if self.results[0].gains is not None:
            raise ValueError(f"{names[0]}: the first result gains nothing over itself")
        for result in self.results[1:]:
            if (result.gains is None) != (result.intervals is None):
                raise ValueError(f"{result.name}: intervals of gains go with those of means")
        for result in self.results:
            if (result.intervals is None) != (self.bootstrap is None or not result.valid):
                raise ValueError(f"{result.name}: intervals go with a bootstrap and a valid query")
        if self.ranked is not None and self.ranked.result not in names:
            raise ValueError(f"the ranked lists are of {self.ranked.result!r}, not of a result")
