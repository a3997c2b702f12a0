"""Settings and result of a calibration. Imports nothing heavy: the command line reads it first."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.errors import InputError
from pipeline.runs.settings import RuleSettings, stated

if TYPE_CHECKING:
    from pipeline.core.thresholds.calibration import Threshold
    from pipeline.runs.camera_thresholds import CameraPair


@dataclass(frozen=True)
class CalibrationSettings:
    """Which threshold to find, and over which pairs."""

    rule: Literal["far", "percentile"] = "far"
    """The false-match rate is given (far), or distances within identities are used (percentile)."""
    of_rule: RuleSettings = RuleSettings()
    """The numbers of the rule."""
    by_camera: bool = False
    """Also find the threshold of each pair of cameras."""
    query_rows: int = 10_000
    """Compare at most this many query rows: whole identities, chosen at random."""

    def __post_init__(self) -> None:
        if self.query_rows < 1:
            raise InputError(f"`query_rows` must be at least 1, not {self.query_rows}")
        wrong = ("percentile", "factor") if self.rule == "far" else ("far",)
        for name in stated(self.of_rule):
            if name in wrong:
                raise InputError(f"`{name}` does not go with `rule` {self.rule}")


@dataclass(frozen=True)
class Calibrated:
    """A threshold as it was stored: how it was found, what it accepts, and its uncertainty.

    Without a `query` the gallery was compared with itself. `query_rows` are the rows with an
    identity that were compared with every row of the gallery. `by_camera` has the threshold of each
    pair of cameras, None if there are too few pairs.
    """

    gallery: str
    version: int
    query: str | None
    query_version: int | None
    query_rows: int
    rule: str
    parameters: dict[str, float]
    resampling: dict[str, float]
    threshold: float
    figures: "Threshold"
    by_camera: "tuple[CameraPair, ...] | None"
    file: str
