"""Sums of the features of each camera: a small Parquet file for each version, beside the table."""

import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.core.cameras.sums import CameraSums
from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, root_of
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.table import Gallery
from pipeline.gallery.version_tables import write_version_table
from pipeline.input_files import parse_json

_log = logging.getLogger(__name__)
_ABOUT = b"regallery"
_FORMAT = 1


def write_camera_sums(gallery: Gallery, cameras: Sequence[str], sums: CameraSums) -> GalleryPlace:
    """Store the sums of a version: an entry for each name in `cameras`, the unknown camera last.

    The file names the location, version, recipe and contents that they are of. Raise `InputError`
    if the version was removed meanwhile, since the sums may include erased rows, and `RunError` if
    the disk is full.
    """
    table = pa.table(
        {
            "camera": pa.array([*cameras, None], pa.string()),
            "rows": sums.rows,
            "sum": _lists(sums.sums),
            "sum_of_squares": _lists(sums.squares),
        },
        metadata={_ABOUT: json.dumps(_about(gallery) | {"location": gallery.location})},
    )
    return write_version_table(gallery, _file(gallery), table, gallery.version)


def read_camera_sums(gallery: Gallery) -> tuple[list[str], CameraSums] | None:
    """The names of the cameras and the stored sums of exactly this version, to the bit.

    None if there are none, or if they are of other contents: another gallery was made in the same
    folder. Raise `GalleryDamagedError` for a file that has changed since `write_camera_sums` wrote
    it.
    """
    path = _file(gallery)
    data = checksums.read_recorded(path, "it is made again")
    if data is None:
        return None
    try:
        table = pq.read_table(pa.BufferReader(data))
        about = parse_json((table.schema.metadata or {})[_ABOUT])
        if {name: about.get(name) for name in _about(gallery)} != _about(gallery):
            _log.warning("%s: it has other contents, and is made again", path)
            return None
        rows, sums, squares = (table[name] for name in ("rows", "sum", "sum_of_squares"))
        found = CameraSums(
            rows.to_numpy(), *(_matrix(c, gallery.dimension) for c in (sums, squares))
        )
        return table["camera"].to_pylist()[:-1], found
    except (ValueError, KeyError) as error:
        raise GalleryDamagedError(
            f"{path}: these are no statistics of cameras ({error}); delete the file, and it is"
            " made again"
        ) from error


def _about(gallery: Gallery) -> dict[str, Any]:
    """The metadata that the file must have to belong to this version."""
    contents = hashlib.blake2b(digest_size=16)
    for file in gallery.snapshot.files:
        contents.update(f"{file.path} {file.bytes} {file.rows}\n".encode())
    return {
        "format": _FORMAT,
        "version": gallery.version,
        "fingerprint": gallery.fingerprint,
        "contents": contents.hexdigest(),
    }


def _file(gallery: Gallery) -> GalleryPlace:
    root = root_of(gallery.location)
    return root / storage.CAMERAS_FOLDER / f"{storage.version_name(gallery.version)}.parquet"


def _lists(values: NDArray[np.float64]) -> pa.FixedSizeListArray:
    """A matrix `[C, D]` as a column of lists."""
    return pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(values).ravel(), values.shape[1])


def _matrix(column: pa.ChunkedArray, dimension: int) -> NDArray[np.float64]:
    values = column.combine_chunks().flatten().to_numpy()
    return values.reshape(len(column), dimension)
