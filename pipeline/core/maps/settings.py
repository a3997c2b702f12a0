"""How a map is made."""

from dataclasses import dataclass

_SMALL, _EPOCHS_OF_SMALL, _EPOCHS = 10_000, 500, 200


@dataclass(frozen=True)
class MapSettings:
    """How the rows of a set are laid out in the plane.

    Raise ValueError for a number out of its range.
    """

    neighbors: int = 15
    """Neighbors of each row that the map is made of, the row itself not counted."""
    min_dist: float = 0.1
    """Distance in the map up to which two rows count as entirely near."""
    spread: float = 1.0
    """Scale of the map: beyond `min_dist`, nearness falls by a factor of e for each `spread`."""
    epochs: int | None = None
    """Passes over all pairs of neighbors (default: 500 below 10,000 rows, otherwise 200)."""
    negatives: int = 5
    """Random rows that push a row away, for each of its neighbors that pulls."""
    seed: int = 0
    """Number from which all random draws follow."""

    def __post_init__(self) -> None:
        if self.neighbors < 1:
            raise ValueError(f"neighbors must be at least 1, not {self.neighbors}")
        if not 0 < self.spread < float("inf"):
            raise ValueError(f"spread must be above 0 and finite, not {self.spread}")
        if not 0 <= self.min_dist <= self.spread:
            raise ValueError(
                f"min_dist must be from 0 to the spread of {self.spread}, not {self.min_dist}"
            )
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {self.epochs}")
        if self.negatives < 0:
            raise ValueError(f"negatives must be 0 or more, not {self.negatives}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be from 0 to below 2^32, not {self.seed}")

    def epochs_for(self, rows: int) -> int:
        """The number of epochs for a map of this many rows.

        >>> MapSettings().epochs_for(9_999), MapSettings().epochs_for(10_000)
        (500, 200)
        """
        if self.epochs is not None:
            return self.epochs
        return _EPOCHS_OF_SMALL if rows < _SMALL else _EPOCHS
