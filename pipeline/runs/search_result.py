"""Settings and result of a search. Imports nothing heavy: the command line reads it first."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.archive.limits import MAX_BYTES, check_max_bytes
from pipeline.errors import InputError
from pipeline.model.defaults import BATCH_SIZE
from pipeline.runs.times import parse_time

if TYPE_CHECKING:
    from pipeline.runs.queries import NotSearched


@dataclass(frozen=True)
class SearchSettings:
    """How lists are made and marked."""

    k: int = 10
    """Rows in each list."""
    threshold: float | None = None
    """Least similarity of a match (default: the gallery's calibrated threshold)."""
    query_camera: str | None = None
    """Camera of the images. Without `threshold`, a row then has the threshold of its pair of
    cameras, if one was calibrated."""
    batch_size: int = BATCH_SIZE
    """Crops in one batch of the network; 1 is fastest for a single image."""
    max_bytes: int = MAX_BYTES
    """Do not read image files with more bytes than this; report them as unusable."""
    multi_query: Literal["mean", "best"] | None = None
    """Take all images for one query: their unit mean, or the best of their similarities to each
    row."""

    query_time: str | None = None
    """When the images were taken (ISO 8601, UTC), for `travel_times`."""
    travel_times: str | None = None
    """File of travel times between cameras, or `learned`: rows that nobody can have walked to or
    from are left out."""

    def __post_init__(self) -> None:
        parse_time("`query_time`", self.query_time)
        if self.travel_times is not None and None in (self.query_camera, self.query_time):
            raise InputError(
                "`travel_times` needs to know where and when the images were taken: give"
                " `query_camera` and `query_time`"
            )
        for name, value in (("k", self.k), ("batch_size", self.batch_size)):
            if value < 1:
                raise InputError(f"`{name}` must be at least 1, not {value}")
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise InputError(
                f"`threshold` must be a cosine similarity from -1 to 1, not {self.threshold}"
            )
        check_max_bytes(self.max_bytes)


@dataclass(frozen=True)
class Hit:
    """A row of a `gallery` in a ranked list; `match` is None if there is no `threshold` for it."""

    rank: int
    gallery: str
    row_id: int
    path: str
    identity: int | None
    camera: str | None
    captured_at: datetime | None
    score: float
    threshold: float | None
    match: bool | None


@dataclass(frozen=True)
class HitList:
    """The best gallery rows of one image, best first.

    If several images are one query, `image` is the first of all that were `queried` together.
    """

    image: str
    hits: tuple[Hit, ...]
    queried: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The image, and the number of other images in the same query."""
        others = len(self.queried) - 1
        if others < 1:
            return self.image
        return f"{self.image} and {others:,} other image{'s' * (others > 1)}, as one query"


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and the images that it could not search for.

    `rows_excluded` are those that travel times leave out; None without travel times.
    `threshold` is the least similarity of a match, `threshold_from` where it comes from; both are
    None if there is neither a flag nor a calibration.
    """

    gallery: str
    version: int
    rows: int
    threshold: float | None
    threshold_from: str | None
    results: tuple[HitList, ...]
    not_searched: "tuple[NotSearched, ...]"
    rows_excluded: int | None
    html: Path | None
    products: dict[str, int | float] = field(compare=False, default_factory=dict)

    @property
    def exit_status(self) -> int:
        """1 if an image could not be used."""
        return 1 if self.not_searched else 0
