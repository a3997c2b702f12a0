"""Verdicts of people on pairs of rows, for the rows of other galleries of the same source."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.runs.link_verdicts import agreed_verdicts


@dataclass(frozen=True)
class PathVerdicts:
    """Pairs of rows that people have judged, by the paths of the rows."""

    same: tuple[tuple[str, str], ...] = ()
    different: tuple[tuple[str, str], ...] = ()

    def among(self, paths: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The positions `[L, 2]` in `paths` of the pairs of one person, and of two people.

        Pairs of which a row is not there are left out.

        >>> judged = PathVerdicts(same=(("a", "c"), ("a", "x")))
        >>> judged.among(pa.chunked_array([["a", "b", "c"]]))[0]
        array([[0, 2]])
        """
        return _positions(self.same, paths), _positions(self.different, paths)

    def digest(self) -> str:
        """A hash of the pairs."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()


NO_VERDICTS = PathVerdicts()


def verdicts_by_path(gallery: Gallery, source: str) -> PathVerdicts:
    """The verdicts that count in a gallery, by path.

    Raise InputError if the gallery is of another source, and if verdicts contradict each other.
    """
    held = gallery.properties["source"]
    if held != source:
        raise InputError(
            f"{gallery.location} holds verdicts on rows of {held}, and not of {source}: its paths"
            " mean other crops"
        )
    found = agreed_verdicts(gallery)
    rows = gallery.rows(["row_id", "path"])
    ids, paths = rows["row_id"].to_numpy(), rows["path"]

    def named(pairs: NDArray[np.int64]) -> tuple[tuple[str, str], ...]:
        ends = [paths.take(pa.array(np.searchsorted(ids, each))).to_pylist() for each in pairs.T]
        return tuple(zip(*ends, strict=True))

    return PathVerdicts(named(found.same), named(found.different))


def _positions(pairs: Sequence[tuple[str, str]], paths: pa.ChunkedArray) -> NDArray[np.int64]:
    flat = pa.array([path for pair in pairs for path in pair], pa.string())
    places = pc.fill_null(pc.index_in(flat, paths.combine_chunks()), -1).to_numpy()
    found = places.astype(np.int64).reshape(-1, 2)
    return found[(found >= 0).all(axis=1)]
