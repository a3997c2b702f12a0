"""Counts of the contents of a gallery's version."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.gallery.files.schema import SCALAR_COLUMNS
from pipeline.gallery.table import Gallery

JUNK, DISTRACTOR = -1, 0
_COUNTED = tuple(name for name in SCALAR_COLUMNS if name not in ("row_id", "path"))


@dataclass(frozen=True)
class GallerySummary:
    """Counts of one version.

    `identities` counts those above 0; `junk` and `distractors` are rows of identity -1 and 0.
    `rows_by_camera` has the empty name for rows without a camera. `nulls` are the unknown
    values of each column that has any. `rejects` is by reason.
    """

    version: int
    rows: int
    files: int
    bytes: int
    identities: int
    junk: int
    distractors: int
    rows_by_camera: dict[str, int]
    nulls: dict[str, int]
    rejects: dict[str, int]


def summarize_gallery(gallery: Gallery) -> GallerySummary:
    """Count the rows of a version by camera and identity, its unknown values and its rejects."""
    rows = gallery.rows(_COUNTED)
    identities = rows["identity"].drop_null().to_numpy()
    files = gallery.snapshot.files
    nulls = {name: rows[name].null_count for name in _COUNTED}
    return GallerySummary(
        version=gallery.version,
        rows=gallery.count,
        files=len(files),
        bytes=sum(file.bytes for file in files),
        identities=len(np.unique(identities[identities > DISTRACTOR])),
        junk=int((identities == JUNK).sum()),
        distractors=int((identities == DISTRACTOR).sum()),
        rows_by_camera=_counts(rows["camera"].fill_null("")),
        nulls={name: count for name, count in nulls.items() if count},
        rejects=rejects_by_reason(gallery.rejects()),
    )


def rejects_by_reason(rejects: pa.Table) -> dict[str, int]:
    """How many inputs became no row, by reason."""
    return _counts(rejects["reason"])


def _counts(column: object) -> dict[str, int]:
    """How often each text occurs, by text."""
    pairs = pc.value_counts(column).to_pylist()
    return dict(sorted((pair["values"], pair["counts"]) for pair in pairs))
