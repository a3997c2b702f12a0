"""Which rows of a gallery a search or a linking is about: a condition, and times."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.gallery.log import conditions
from pipeline.gallery.table import Gallery


@dataclass(frozen=True)
class RowFilter:
    """The rows that fit all that is given."""

    where: str | None = None
    """A condition on the columns, as `erase` takes it."""
    after: datetime | None = None
    """Rows captured at this time or later."""
    before: datetime | None = None
    """Rows captured before this time."""
    not_camera: str | None = None
    """Rows of other cameras, and of none."""

    def positions(self, gallery: Gallery) -> NDArray[np.int64] | None:
        """The positions int64 `[n]` of the rows, ascending; None where nothing is given.

        Files that cannot hold such rows are not read. InputError where no row fits.
        """
        parts = [] if self.where is None else [f"({self.where})"]
        if self.after is not None:
            parts.append(f"captured_at >= {_literal(self.after)}")
        if self.before is not None:
            parts.append(f"captured_at < {_literal(self.before)}")
        if self.not_camera is not None:
            name = self.not_camera.replace("'", "''")
            parts.append(f"(camera <> '{name}' or camera is null)")
        if not parts:
            return None
        if self.where is not None:
            conditions.parse(self.where)  # alone: it must not end the brackets around it
        found = gallery.select_positions(" and ".join(parts))
        if not len(found):
            raise InputError(
                f"{gallery.location} has no row in version {gallery.version} for which"
                f" {' and '.join(parts)}"
            )
        return found


def _literal(time: datetime) -> str:
    return f"'{time.astimezone(UTC).isoformat(sep=' ', timespec='microseconds')}'"


ALL_ROWS = RowFilter()
"""Every row."""
