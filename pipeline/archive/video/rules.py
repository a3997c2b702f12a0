"""The choice of boxes in a video. Imports nothing heavy, because the command line's flags use
it.
"""

from dataclasses import dataclass

from pipeline.errors import InputError


@dataclass(frozen=True)
class BoxSettings:
    """Which boxes of videos and frames are taken."""

    min_confidence: float | None = None
    """Leave out boxes of lower confidence (default: take all; a box without a confidence is always
    taken)."""
    class_: tuple[str, ...] = ()
    """Take only boxes of this class, a name or number of the box file; repeat for more (default:
    all)."""
    every: int = 1
    """Take only boxes of every n-th frame: 0, n, 2n and so on."""
    per_tracklet: int | None = None
    """Take this many boxes of each tracklet: its time is cut into as many parts, and of the three
    largest boxes of a part that lie close together the sharpest is kept (default: all)."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"`every` must be at least 1, not {self.every}")
        if self.per_tracklet is not None and self.per_tracklet < 1:
            raise InputError(f"`per_tracklet` must be at least 1, not {self.per_tracklet}")

    @property
    def is_given(self) -> bool:
        """Whether any setting differs from its default."""
        return self != ALL_BOXES


ALL_BOXES = BoxSettings()
"""Take every box."""
