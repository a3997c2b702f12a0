"""The features of a version, coded and kept in memory for searches (see `core.held.rows`).

Files never change, so the codes of a file serve every version that has it. Where features lie
plainly in a local file, they stay there, and are mapped; others are kept in memory.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import Run, Tiling
from pipeline.core.held.rows import HeldRows, hold
from pipeline.core.held.search import HeldPart, search_held
from pipeline.core.neighbors.topk import TopK
from pipeline.gallery.features import GalleryFeatures


@dataclass(frozen=True, eq=False)
class HeldFeatures:
    """The features of one version, by position in row-id order; `files` has them by file."""

    count: int
    parts: tuple[HeldPart, ...]
    files: Mapping[str, tuple[HeldRows, ...]]

    @property
    def bytes_in_memory(self) -> int:
        """Bytes of codes, and of the features that are not mapped."""
        return sum(rows.bytes_in_memory for part in self.files.values() for rows in part)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        run: Run,
        allowed: NDArray[np.bool_] | None = None,
    ) -> TopK:
        """The `k` best positions of every query; see `search_held`."""
        return search_held(queries, self.parts, k, run=run, allowed=allowed)

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The features at some positions, float32 `[n, D]`, in their order.

        Raise IndexError for a position that is not there.
        """
        return np.stack([self._row(position) for position in positions.tolist()])

    def _row(self, position: int) -> NDArray[np.float32]:
        for part in self.parts:
            place = int(np.searchsorted(part.positions, position))
            if place < len(part.positions) and part.positions[place] == position:
                return np.array(part.rows.features[place])
        raise IndexError(f"position {position} of a gallery of {self.count} rows")


def hold_features(
    features: GalleryFeatures, before: HeldFeatures | None = None, *, tiling: Tiling = Tiling()
) -> HeldFeatures:
    """Code the features of a version; files that were held `before` are not read again.

    Raise `GalleryDamagedError` naming a file, and the other errors of `GalleryFeatures.read`.
    """
    known = before.files if before else {}
    new = [number for number, path in enumerate(features.paths) if path not in known]
    with ThreadPoolExecutor(tiling.thread_count()) as pool:
        made = pool.map(lambda number: tuple(_coded(features, number)), new)
        fresh = dict(zip((features.paths[number] for number in new), made, strict=True))
    files = {path: fresh.get(path) or known.get(path, ()) for path in features.paths}
    return HeldFeatures(len(features), tuple(_parts(features, files)), files)


def _coded(features: GalleryFeatures, file: int) -> Iterator[HeldRows]:
    for rows, mapped in features.file_chunks(file):
        yield hold(rows, mapped=mapped)


def _parts(
    features: GalleryFeatures, files: Mapping[str, tuple[HeldRows, ...]]
) -> Iterator[HeldPart]:
    for number, path in enumerate(features.paths):
        positions, done = features.runs.positions(number), 0
        for rows in files[path]:
            yield HeldPart(rows, positions[done : done + len(rows)])
            done += len(rows)
