"""Settings and result of mining. Imports nothing heavy: the command line reads it first."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import InputError
from pipeline.runs.linked import LinkSettings


@dataclass(frozen=True)
class MineSettings:
    """How many pairs are proposed, and from which links."""

    k: int = 20
    """Pairs to propose."""
    neighbors: int = LinkSettings.k
    """Neighbors of each row that are considered for links."""
    threshold: float | None = None
    """Least similarity of a link (default: estimated from the group precision, as in link)."""
    group_precision: float | None = None
    """Wanted precision of the groups, from which the threshold is estimated (default: 0.9)."""
    width: float = 0.02
    """Distance from the threshold at which a link is wrong with a probability of 0.27."""

    def __post_init__(self) -> None:
        for name in ("k", "neighbors"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1, not {getattr(self, name)}")
        if not self.width > 0:
            raise InputError(f"`width` must be above 0, not {self.width}")
        self.linking  # noqa: B018 - it checks the others

    @property
    def linking(self) -> LinkSettings:
        """The settings of the links."""
        return LinkSettings(self.neighbors, self.threshold, self.group_precision)


@dataclass(frozen=True)
class MinedPair:
    """Two rows to look at: `a` and `b`, with their paths and cameras.

    `change` is how much a verdict is expected to change: the probability that the groups are wrong
    about the two rows, times the geometric mean of the sizes of the groups that the link brings
    together. `linked` says whether the two rows are in one group now.
    """

    a: int
    b: int
    score: float
    change: float
    linked: bool
    path_a: str
    path_b: str
    camera_a: str | None
    camera_b: str | None


@dataclass(frozen=True)
class Mined:
    """The pairs of a gallery whose verdict would change most; `out` is the table, if one is
    written.
    """

    gallery: str
    version: int
    threshold: float
    threshold_from: str
    proposed: tuple[MinedPair, ...]
    out: Path | None
    products: dict[str, int | float] = field(compare=False, default_factory=dict)
