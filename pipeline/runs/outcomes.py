"""Results of runs. Imports nothing heavy: the command line reads it first."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.archive.listing.findings import FoundLabels
    from pipeline.gallery.progress import RunProgress
    from pipeline.report.results import Report


@dataclass(frozen=True)
class SourceCounts:
    """The contents of a source, compared with a gallery.

    The `images` are `new`, `changed` or `unchanged`; `touched` counts the unchanged ones with
    another time and the same bytes. `missing` counts the gallery's rows whose image has disappeared
    from the source. `skipped` counts the files that are not images, by suffix. `labels` describes
    the identities and cameras of the source; None if it has none.
    """

    images: int
    new: int
    changed: int
    unchanged: int
    touched: int
    missing: int
    skipped: dict[str, int]
    labels: "FoundLabels | None"


@dataclass(frozen=True)
class Extracted(SourceCounts):
    """The results of a run of extract.

    `rejected` of the new and changed images gave no row; `removed` counts the missing rows that
    were removed. `rejects` counts all rejects of the gallery by reason, including those of the
    listing. `actors` is the number of Ray actors that did the work, 0 if this process did it.
    """

    gallery: str
    version: int
    removed: int
    rejected: int
    rejects: dict[str, int]
    actors: int
    units: int
    units_resumed: int
    rows: int
    dimension: int
    fingerprint: str

    def __str__(self) -> str:
        done = f"{self.images:,} images: {self.new:,} new, {self.changed:,} changed,"
        rejected = f", {self.rejected:,} rejected" if self.rejected else ""
        return (
            f"{done} {self.unchanged:,} unchanged{rejected}\n"
            f"{self.gallery}: version {self.version}, {self.rows:,} rows of {self.dimension}"
            " dimensions"
        )


@dataclass(frozen=True)
class Planned(SourceCounts):
    """The expected results of a run of extract.

    `rejects` counts the inputs that the listing alone rules out. `to_extract` images of
    `bytes_to_extract` are in `units` that are not finished. A sample of `sampled` images was
    extracted in this process and discarded; `seconds_an_image` and `disk_bytes` are estimated from
    it. `seconds` is the time for `workers` that do not slow each other.
    """

    gallery: str
    removed: int
    rejects: dict[str, int]
    to_extract: int
    bytes_to_extract: int
    units: int
    units_resumed: int
    sampled: int
    seconds_an_image: float
    workers: int
    seconds: float
    disk_bytes: int


@dataclass(frozen=True)
class Mistakes:
    """The pairs that an evaluation gets wrong at a `threshold`; the `file` lists the worst.

    `false_accepts` are pairs of two people that reach it, `false_rejects` matches that do not;
    `listed` of both are in the file. If a gallery is evaluated against itself, each pair counts
    twice, and is listed once.
    """

    file: Path
    threshold: float
    false_accepts: int
    false_rejects: int
    listed: int


@dataclass(frozen=True)
class Evaluated:
    """The report, and the paths of its files; `mistakes` only if they were wanted.

    `products` counts the pairs that were multiplied for ranks and neighbors, by arithmetic, and
    those that were scored.
    """

    report_json: Path
    report_html: Path
    report: "Report"
    products: dict[str, int | float] = field(compare=False, default_factory=dict)
    mistakes: Mistakes | None = None


@dataclass(frozen=True)
class Expanded:
    """The result of a run of expand: `version` of `gallery`, from `parent_version` of `parent`.

    `is_new_version` is false if the gallery was up to date. `products` counts the pairs that were
    multiplied, by arithmetic, and those that were scored.
    """

    gallery: str
    version: int
    parent: str
    parent_version: int
    parameters: dict[str, str | int | float]
    rows: int
    dimension: int
    fingerprint: str
    is_new_version: bool
    products: dict[str, int | float] = field(compare=False, default_factory=dict)


@dataclass(frozen=True)
class TrackletsMade:
    """What a run of tracklets made: `version` of `gallery`, from `parent_version` of `parent`.

    `rows` counts tracklets, `boxes` their rows in the parent, `without_tracklet` its other rows.
    `is_new_version` is false if the gallery was up to date.
    """

    gallery: str
    version: int
    parent: str
    parent_version: int
    feature: str
    rows: int
    boxes: int
    without_tracklet: int
    is_new_version: bool


@dataclass(frozen=True)
class CopyMade:
    """The changes of a run in a gallery of copies: its `rows` now, of which `rows_added` are new;
    `rows_removed` are gone.
    """

    gallery: str
    version: int
    rows: int
    rows_added: int
    rows_removed: int


@dataclass(frozen=True)
class MergedGalleries(CopyMade):
    """What a merge changed: `merged` are the galleries, in order, `rejects` the inputs of all of
    them that became no row, by reason.
    """

    rejects: dict[str, int]
    merged: tuple[str, ...]


@dataclass(frozen=True)
class SplitGallery:
    """The `parts` into which `parent_version` of `parent` was split `by` a column."""

    parent: str
    parent_version: int
    by: str
    parts: tuple[CopyMade, ...]


@dataclass(frozen=True)
class Followed:
    """An output of a gallery that may hold rows which were erased from the gallery.

    `is_removed` means that it was deleted or, for a gallery, purged; otherwise it stays for a
    `reason`.
    """

    kind: str
    place: str
    host: str
    version: int
    is_removed: bool
    reason: str


@dataclass(frozen=True)
class GalleryStatus:
    """The state of a gallery: `running`, `interrupted` (the run died or failed; started again, it
    resumes), or `idle`.

    A running change has a `purpose`, a `host`, a `process` and a time `since`; times are ISO 8601,
    UTC. Its `progress` is None if it does not count its steps.
    """

    gallery: str
    state: Literal["running", "interrupted", "idle"]
    purpose: str | None = None
    host: str | None = None
    process: int | None = None
    since: str | None = None
    progress: "RunProgress | None" = None
