"""Near pairs on the disk: one file for each run of rows, so that a killed search resumes.

The folder is named by a hash of what the pairs are made of. So the content of a file depends on its
path alone, and a worker of a killed run that lives on for some seconds can only write the same
bytes again.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.clusters.jaccard import LaterRows
from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.storage import GalleryDamagedError

_log = logging.getLogger(__name__)
_ARRAYS = ("counts", "rows", "distances")


@dataclass(frozen=True)
class PairFiles:
    """The pairs of runs of rows in a folder that every worker sees."""

    folder: str

    @classmethod
    def begin(
        cls, folder: Path, arrays: Sequence[NDArray[np.generic]], settings: object
    ) -> "PairFiles":
        """The files of an earlier run of the same `arrays` and `settings`, or none yet.

        Pairs of anything else in `folder` are deleted.
        """
        digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
        for each in arrays:
            digest.update(np.ascontiguousarray(each).data)
        own = folder / f"pairs-{digest.hexdigest()}"
        for other in folder.glob("pairs-*"):
            if other != own:
                storage.delete_folder(other)
        storage.make_folder(own)
        storage.drop_cut_off(own)
        checksums.sweep_writers(own)
        return cls(str(own))

    def has(self, start: int, stop: int) -> bool:
        """Whether the pairs of the rows `start` to `stop` are stored; a warning names damage."""
        path = self._path(start, stop)
        if not path.exists():
            return False
        try:
            checksums.check_unchanged(path)
        except GalleryDamagedError as error:
            _log.warning("a block of near pairs is made again: %s", error)
            return False
        return True

    def write(self, start: int, stop: int, pairs: LaterRows) -> None:
        """Store the pairs of the rows `start` to `stop`."""

        def save(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, **{name: getattr(pairs, name) for name in _ARRAYS})

        checksums.write_recorded(self._path(start, stop), save)

    def read(self, start: int, stop: int) -> LaterRows:
        """The pairs of the rows `start` to `stop`; raise GalleryDamagedError for a damaged file."""
        path = self._path(start, stop)
        checksums.check_unchanged(path, "run the command again")
        with np.load(path, allow_pickle=False) as held:
            return LaterRows(*(held[name] for name in _ARRAYS))

    def _path(self, start: int, stop: int) -> Path:
        return Path(self.folder) / f"rows-{start}-{stop}.npz"
