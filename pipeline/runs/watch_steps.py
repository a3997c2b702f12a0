"""The steps of a watch, with the settings of the verbs."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.video.rules import BoxSettings
from pipeline.errors import InputError
from pipeline.runs.ages import parse_span
from pipeline.runs.linked import TABLE_SUFFIXES, LinkSettings
from pipeline.runs.locations import Location
from pipeline.runs.selection import ALL_ROWS, RowFilter
from pipeline.runs.settings import (
    ActorSettings,
    FoldSettings,
    RecipeSettings,
    UpdateSettings,
    WorkSettings,
)


@dataclass(frozen=True)
class ExtractStep:
    """Bring a gallery up to date with its source."""

    source: Location
    gallery: Location
    model: Location
    checkpoint: Location | None = None
    layout: str = "none"
    labels: LabelSettings = LabelSettings()
    boxes: BoxSettings = BoxSettings()
    update: UpdateSettings = UpdateSettings()
    recipe: RecipeSettings = RecipeSettings()
    work: WorkSettings = WorkSettings()
    on: ActorSettings = ActorSettings()

    def __post_init__(self) -> None:
        if self.update.dry_run:
            raise InputError("`dry_run` has no place in a watch, which brings up to date")

    @property
    def makes(self) -> str:
        """What the step makes or changes."""
        return self.gallery


@dataclass(frozen=True)
class EraseStep:
    """Erase the rows that are no longer to be kept."""

    gallery: Location
    older_than: str | None = None
    """Rows captured longer ago than this, such as 90d."""
    where: str | None = None
    """Rows for which this condition on the columns holds."""
    purge: bool = False
    everywhere: bool = False
    max_erased: float = 0.5
    """The step fails where more than this share of the rows would be erased."""

    def __post_init__(self) -> None:
        if self.older_than is None and self.where is None:
            raise InputError("`older_than` or `where` must say which rows are erased")
        if self.older_than is not None:
            _span("older_than", self.older_than)
        if self.everywhere and not self.purge:
            raise InputError("`everywhere` goes with `purge`")
        if not 0 <= self.max_erased <= 1:
            raise InputError(f"`max_erased` must be a share from 0 to 1, not {self.max_erased}")

    @property
    def makes(self) -> str:
        """What the step makes or changes."""
        return self.gallery


@dataclass(frozen=True)
class TrackletsStep:
    """Bring a gallery of tracklets up to date."""

    gallery: Location
    out: Location
    feature: Literal["mean", "medoid"] = "mean"

    @property
    def makes(self) -> str:
        """What the step makes or changes."""
        return self.out


@dataclass(frozen=True)
class ExpandStep:
    """Bring an expanded gallery up to date."""

    gallery: Location
    out: Location
    k: int | None = None
    alpha: float | None = None
    times: int | None = None
    camera_normalize: Literal["mean", "zscore"] | None = None
    camera_rows: int | None = None
    on: FoldSettings = FoldSettings()

    @property
    def makes(self) -> str:
        """What the step makes or changes."""
        return self.out


@dataclass(frozen=True)
class LinkStep:
    """Write the identity candidates of a gallery again, where it has a new version."""

    gallery: Location
    out: Location
    select: RowFilter = ALL_ROWS
    settings: LinkSettings = LinkSettings()
    on: FoldSettings = FoldSettings()

    def __post_init__(self) -> None:
        if not self.out.endswith(TABLE_SUFFIXES):
            raise InputError(f"`out` {self.out} must end in {' or '.join(TABLE_SUFFIXES)}")

    @property
    def makes(self) -> str:
        """What the step makes or changes."""
        return self.out


WatchStep = ExtractStep | EraseStep | TrackletsStep | ExpandStep | LinkStep

STEP_KINDS: dict[str, type[WatchStep]] = {
    "extract": ExtractStep,
    "erase": EraseStep,
    "tracklets": TrackletsStep,
    "expand": ExpandStep,
    "link": LinkStep,
}
"""The steps by the verb that does the same, in the order in which those of one gallery are done."""


def verb_of(step: WatchStep) -> str:
    """The verb that does the same as a step."""
    return next(verb for verb, kind in STEP_KINDS.items() if isinstance(step, kind))


@dataclass(frozen=True)
class WatchReporting:
    """What a watch reports beside its steps; the table `[watch]` of a configuration."""

    silent_after: str | None = None
    """Report a camera as silent when its last image is older than this, such as 2d (default: only
    where its silence is improbable)."""
    ignore_cameras: tuple[str, ...] = ()
    """Cameras that are not watched, such as those that were taken down."""
    drift: bool = True
    """Measure the drift of each camera's scores in galleries that have new rows."""
    level: float = 0.95
    """Confidence that all intervals of a gallery hold together."""
    report: Location | None = None
    """File that each round replaces with its report, as JSON."""

    def __post_init__(self) -> None:
        _ = self.silence
        if not 0 < self.level < 1:
            raise InputError(f"`level` lies between 0 and 1, not {self.level}")

    @property
    def silence(self) -> timedelta | None:
        """`silent_after` as a span; raise InputError if it is not a span."""
        return None if self.silent_after is None else _span("silent_after", self.silent_after)


def _span(setting: str, text: str) -> timedelta:
    try:
        return parse_span(text)
    except InputError as error:
        raise InputError(f"`{setting}`: {error}") from error
