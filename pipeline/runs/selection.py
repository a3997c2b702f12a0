"""The choice of gallery rows for a search, a linking or an evaluation.

Imports nothing heavy, because the command line reads it first.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.errors import InputError
from pipeline.runs.times import parse_time

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.gallery.log.conditions import Condition
    from pipeline.runs.union import AnyGallery


@dataclass(frozen=True)
class RowFilter:
    """The gallery rows that are compared: those that meet all conditions.

    >>> RowFilter(camera=("c1",), after="2026-03-01").is_given
    True
    """

    where: str | None = None
    """Compare only gallery rows for which this condition on the columns holds, such as "camera =
    '3' and identity > 7" (see erase)."""
    camera: tuple[str, ...] = ()
    """Compare only gallery rows of this camera; repeat for further cameras."""
    not_own_camera: bool = False
    """Compare only rows of different cameras; a row without a camera is compared with all."""
    after: str | None = None
    """Compare only gallery rows captured at this time (ISO 8601, UTC) or later."""
    before: str | None = None
    """Compare only gallery rows captured before this time."""

    def __post_init__(self) -> None:
        for name in ("after", "before"):
            parse_time(f"`{name}`", getattr(self, name))
        if "" in self.camera:
            raise InputError("`camera` is empty: give the name of a camera, or leave it out")
        first, last = parse_time("`after`", self.after), parse_time("`before`", self.before)
        if first and last and first >= last:
            raise InputError(f"no time is from `after` {self.after} on and `before` {self.before}")

    @property
    def is_given(self) -> bool:
        """Whether gallery rows are chosen, whatever they are compared with."""
        return self.where is not None or bool(self.camera or self.after or self.before)

    def positions(
        self,
        gallery: "AnyGallery",
        own_camera: str | None = None,
        also: "Condition | None" = None,
    ) -> "NDArray[np.int64] | None":
        """The positions int64 `[n]` of the rows, ascending; None for all of them.

        If `own_camera` is given, only rows of other cameras and of none; if `also` is, only those
        for which this condition holds, too. Files that cannot hold such rows are not read. Raise
        InputError where no row fits.
        """
        if not self.is_given and own_camera is None and also is None:
            return None
        condition = self._condition(own_camera, also)
        found = gallery.select_positions(condition)
        if not len(found):
            raise InputError(
                f"{gallery.location} has no row in version {gallery.version} for which"
                f" {condition.text}"
            )
        return found

    def _condition(self, own_camera: str | None, also: "Condition | None") -> "Condition":
        from pipeline.gallery.log import conditions

        parts = []
        if self.camera:
            parts.append(f"camera in ({', '.join(map(_quoted, self.camera))})")
        if own_camera is not None:
            parts.append(f"(camera <> {_quoted(own_camera)} or camera is null)")
        for name, sign in (("after", ">="), ("before", "<")):
            if (time := parse_time(f"`{name}`", getattr(self, name))) is not None:
                parts.append(f"captured_at {sign} {_literal(time)}")
        # Each alone: a given condition must not end the brackets around it.
        given = [] if self.where is None else [self.where]
        read = [conditions.parse(part) for part in (*given, *parts)]
        return conditions.all_of(read if also is None else [*read, also])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _literal(time: datetime) -> str:
    return f"'{time.astimezone(UTC).isoformat(sep=' ', timespec='microseconds')}'"


ALL_ROWS = RowFilter()
"""Every row."""
