"""Camera pairs as a square of cells, limited to the busiest cameras."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.core.evaluation.by_camera import Camera, CameraFigures, PairFigures

SHOWN = 12
"""The most cameras on a side of the grid."""


@dataclass(frozen=True)
class CameraGrid:
    """Cells by query camera (rows) and gallery camera (columns); None if no query matches.

    `hidden` counts the pairs of other cameras than the `SHOWN` ones with the most valid queries.
    """

    rows: list[Camera]
    columns: list[Camera]
    cells: list[list[PairFigures | None]]
    hidden: int


def camera_grid(pairs: Sequence[PairFigures]) -> CameraGrid:
    """The grid of a result's camera pairs, cameras in natural order (c2 before c10)."""
    found = {(each.query_camera, each.gallery_camera): each for each in pairs}
    rows = _busiest((each.query_camera, each.valid) for each in pairs)
    columns = _busiest((each.gallery_camera, each.valid) for each in pairs)
    cells = [[found.get((row, column)) for column in columns] for row in rows]
    shown = sum(cell is not None for line in cells for cell in line)
    return CameraGrid(rows, columns, cells, len(found) - shown)


def busiest(cameras: Sequence[CameraFigures]) -> list[CameraFigures]:
    """The `SHOWN` cameras with the most queries, in natural order."""
    most = sorted(cameras, key=lambda each: (-each.queries, natural(each.camera)))[:SHOWN]
    return sorted(most, key=lambda each: natural(each.camera))


def natural(camera: Camera) -> tuple[bool, list[tuple[bool, int, str]]]:
    """A key that sorts numbers within names by their value, and an unknown camera last.

    >>> sorted(["c10", None, "c2", "b"], key=natural)
    ['b', 'c2', 'c10', None]
    """
    parts = re.findall(r"\d+|\D+", "" if camera is None else str(camera))
    known = [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
    return camera is None, known


def _busiest(counts: Iterable[tuple[Camera, int]]) -> list[Camera]:
    valid: Counter[Camera] = Counter()
    for camera, queries in counts:
        valid[camera] += queries
    kept = sorted(valid, key=lambda camera: (-valid[camera], natural(camera)))[:SHOWN]
    return sorted(kept, key=natural)
