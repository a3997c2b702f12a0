"""The order of the tiles of a symmetric search: no two tiles at one time share a block.

Each tile changes the neighbor lists of its rows and of its columns, and locks neither.
"""

import threading
from collections.abc import Callable, Iterable

from pipeline.core.blocks import Run, blocks


def triangle(count: int) -> list[tuple[int, int]]:
    """The tiles on and above the diagonal of a square of `count` x `count` blocks.

    The diagonal comes first. Then come rounds in which each block meets one other block (the circle
    method), so the next tile in line rarely has to wait.
    """
    line = [(x, x) for x in range(count)]
    circle = list(range(count + count % 2))
    for _ in range(len(circle) - 1):
        pairs = zip(circle[: len(circle) // 2], reversed(circle), strict=False)
        line += [(min(pair), max(pair)) for pair in pairs if max(pair) < count]
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return line


def rectangle(rows: int, columns: int) -> list[tuple[int, int]]:
    """All tiles of `rows` x `columns` blocks, in rounds that use each block at most once."""
    if rows > columns:
        return [(x, y) for y, x in rectangle(columns, rows)]
    return [(x, (x + turn) % columns) for turn in range(columns) for x in range(rows)]


class Tiles:
    """Hand out the tiles of `line` so that no two tiles in progress share a block.

    Rows and columns are blocks of one set or of two. For two sets, `apart` is the number of blocks
    of the first.
    """

    def __init__(self, line: Iterable[tuple[int, int]], apart: int = 0) -> None:
        self._left = list(line)[::-1]
        self._apart = apart
        self._out: set[int] = set()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._left)

    def take(self) -> tuple[int, int]:
        """Return the next tile whose blocks are free, and wait if there is none. Call it once per
        tile.
        """
        with self._changed:
            while True:
                for place in range(len(self._left) - 1, -1, -1):
                    if self._out.isdisjoint(self._blocks(self._left[place])):
                        tile = self._left.pop(place)
                        self._out.update(self._blocks(tile))
                        return tile
                self._changed.wait()

    def give_back(self, tile: tuple[int, int]) -> None:
        """Free the blocks of `tile`."""
        with self._changed:
            self._out.difference_update(self._blocks(tile))
            self._changed.notify_all()

    def _blocks(self, tile: tuple[int, int]) -> tuple[int, int]:
        return tile[0], tile[1] + self._apart


def run_tiles(work: Callable[[int, int], None], tiles: Tiles, run: Run) -> None:
    """Call `work(x, y)` for every tile on the threads of `run`."""

    def take_one(_start: int, _stop: int) -> None:
        tile = tiles.take()
        try:
            work(*tile)
        finally:
            tiles.give_back(tile)

    run(take_one, blocks(len(tiles), 1))
