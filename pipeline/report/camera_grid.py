"""Camera pairs as a square of cells, the busiest cameras of many."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.breakdown import CameraFigures, PairFigures

SHOWN = 12
"""Cameras on a side of the grid, at most."""


@dataclass(frozen=True)
class CameraGrid:
    """Cells by query camera (rows) and gallery camera (columns); None where no query matches.

    `hidden` pairs are of cameras beyond the `SHOWN` ones with the most valid queries.
    """

    rows: list[str | None]
    columns: list[str | None]
    cells: list[list[PairFigures | None]]
    hidden: int


def camera_grid(pairs: Sequence[PairFigures]) -> CameraGrid:
    """The grid of a result's camera pairs, cameras in natural order (c2 before c10)."""
    found = {(each["query_camera"], each["gallery_camera"]): each for each in pairs}
    rows = _busiest(pairs, "query_camera")
    columns = _busiest(pairs, "gallery_camera")
    cells = [[found.get((row, column)) for column in columns] for row in rows]
    shown = sum(cell is not None for line in cells for cell in line)
    return CameraGrid(rows, columns, cells, len(found) - shown)


def busiest(cameras: Sequence[CameraFigures]) -> list[CameraFigures]:
    """The `SHOWN` cameras with the most queries, in natural order."""
    most = sorted(cameras, key=lambda each: (-each["queries"], natural(each["camera"])))[:SHOWN]
    return sorted(most, key=lambda each: natural(each["camera"]))


def natural(camera: str | None) -> tuple[bool, list[tuple[bool, int, str]]]:
    """A key that sorts numbers within names by their value, and an unknown camera last.

    >>> sorted(["c10", None, "c2", "b"], key=natural)
    ['b', 'c2', 'c10', None]
    """
    parts = re.findall(r"\d+|\D+", camera or "")
    known = [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
    return camera is None, known


def _busiest(pairs: Sequence[PairFigures], side: str) -> list[str | None]:
    valid: Counter[str | None] = Counter()
    for each in pairs:
        valid[each[side]] += each["valid"]  # type: ignore[literal-required]
    kept = sorted(valid, key=lambda camera: (-valid[camera], natural(camera)))[:SHOWN]
    return sorted(kept, key=natural)
