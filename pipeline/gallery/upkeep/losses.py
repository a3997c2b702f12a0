"""Count what a clean or a purge would remove for good, before the user agrees."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.gallery.files.places import GalleryPlace, parquet, root_of
from pipeline.gallery.log import transactions as log
from pipeline.gallery.log.entries import oldest_version
from pipeline.gallery.log.transactions import RowFile
from pipeline.gallery.table import Gallery


@dataclass(frozen=True)
class Lost:
    """Versions that could no longer be read, and the rows that only they have."""

    first: int
    last: int
    rows: int

    @property
    def versions(self) -> int:
        """The number of these versions."""
        return self.last - self.first + 1


def lost_before(gallery: Gallery, first: int) -> Lost:
    """Count the rows that are lost if the versions before `first` are removed.

    Rows in a file that cannot be read count as lost, because another version may not have them.
    """
    root = root_of(gallery.location)
    oldest = oldest_version(root)
    old: dict[str, RowFile] = {}
    kept: dict[str, RowFile] = {}
    for version in range(oldest, gallery.version + 1):
        files = log.read_log(root, version).files
        (old if version < first else kept).update({file.path: file for file in files})
    gone, unknown = np.empty(0, np.int64), 0
    for file in (old[path] for path in old.keys() - kept.keys()):
        ids = _row_ids(root, file)
        if ids is None:
            unknown += file.rows
        else:
            gone = np.union1d(gone, ids)
    stays = np.zeros(len(gone), bool)
    for file in _meeting(kept.values(), gone):
        ids = _row_ids(root, file)
        if ids is not None:
            stays |= np.isin(gone, ids)
    return Lost(oldest, min(first, gallery.version) - 1, int((~stays).sum()) + unknown)


def _row_ids(root: GalleryPlace, file: RowFile) -> np.ndarray | None:
    try:
        return pq.read_table(parquet(root / file.path), columns=["row_id"])["row_id"].to_numpy()
    except (OSError, pa.ArrowInvalid):
        return None


def _meeting(files: Iterable[RowFile], row_ids: np.ndarray) -> list[RowFile]:
    """The files whose range of row ids includes some of these."""
    found = []
    for file in files:
        place = np.searchsorted(row_ids, file.min_row_id)
        if place < len(row_ids) and row_ids[place] <= file.max_row_id:
            found.append(file)
    return found
