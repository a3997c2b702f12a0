"""Maps of a gallery: one small Parquet file for each mapped version, beside the table.

A map holds row ids and points, and no features. Its name has two versions: the one whose rows it
holds, and the one whose rows were last laid out all together, since the points of all rows follow
from the rows of that version. When that version leaves the log, the map is deleted.
"""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.core.maps.settings import MapSettings
from pipeline.gallery import checksums
from pipeline.gallery.contents import contents_hash
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, root_of
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log.entries import oldest_version
from pipeline.gallery.table import Gallery
from pipeline.gallery.version_tables import write_version_table
from pipeline.input_files import parse_json

_log = logging.getLogger(__name__)
_ABOUT = b"regallery"
_FORMAT = 1
_NAME = re.compile(r"(\d{12})-(\d{12})\.parquet")


@dataclass(frozen=True, eq=False)
class GalleryMap:
    """The rows of a version of a gallery as points in the plane.

    `row_ids` int64 `[N]`, ascending, are all rows of the `version`, and `points` float32 `[N, 2]`
    their places. All rows of version `laid_out` were laid out together; `placed` counts the rows
    that have come since, and that lie at the mean of their neighbors.
    """

    row_ids: NDArray[np.int64]
    points: NDArray[np.float32]
    version: int
    settings: MapSettings
    placed: int
    laid_out: int

    def __post_init__(self) -> None:
        if self.points.shape != (len(self.row_ids), 2):
            raise ValueError(
                f"points must be [{len(self.row_ids)}, 2], one for each row, not"
                f" {self.points.shape}"
            )

    def __len__(self) -> int:
        return len(self.row_ids)


def write_map(gallery: Gallery, found: GalleryMap) -> GalleryPlace:
    """Store the map of a version, in place of an earlier one of this version.

    Raise `InputError` if the version that it was laid out from was removed meanwhile, since its
    points follow from rows that may have been erased, and `RunError` if the disk is full.
    """
    table = pa.table(
        {
            "row_id": pa.array(found.row_ids, pa.int64()),
            "x": pa.array(found.points[:, 0], pa.float32()),
            "y": pa.array(found.points[:, 1], pa.float32()),
        },
        metadata={_ABOUT: json.dumps(_about(gallery, found))},
    )
    folder = _folder(gallery)
    others = [path for version, _, path in _stored(folder) if version == gallery.version]
    storage.make_folder(folder)
    storage.drop_cut_off(folder)
    storage.delete_files(others)
    path = folder / _name(found.version, found.laid_out)
    return write_version_table(gallery, path, table, found.laid_out)


def read_map(gallery: Gallery, settings: MapSettings) -> GalleryMap | None:
    """The stored map of exactly this version with these settings, to the bit; None without.

    Raise `GalleryDamagedError` for a file that has changed since `write_map` wrote it.
    """
    for version, laid_out, path in _stored(_folder(gallery)):
        if version == gallery.version:
            return _read(gallery, settings, laid_out, path)
    return None


def read_earlier_map(gallery: Gallery, settings: MapSettings) -> GalleryMap | None:
    """The stored map with these settings of the latest version before this one; None without.

    Only versions that can still be read count, and maps that were laid out from such. Raise
    `GalleryDamagedError` for a file that has changed since `write_map` wrote it.
    """
    oldest = oldest_version(root_of(gallery.location))
    for version, laid_out, path in _stored(_folder(gallery)):
        if version < gallery.version and laid_out >= oldest:
            before = Gallery.open(gallery.location, version)
            if before.fingerprint == gallery.fingerprint:
                found = _read(before, settings, laid_out, path)
                if found is not None:
                    return found
    return None


def _read(
    gallery: Gallery, settings: MapSettings, laid_out: int, path: GalleryPlace
) -> GalleryMap | None:
    """The map in a file, if it is one of this version with these settings."""
    data = checksums.read_recorded(path, "it is made again")
    if data is None:
        return None
    try:
        table = pq.read_table(pa.BufferReader(data))
        about = parse_json((table.schema.metadata or {})[_ABOUT])
        points = np.column_stack([table[name].to_numpy() for name in ("x", "y")])
        found = GalleryMap(
            table["row_id"].to_numpy(),
            points,
            gallery.version,
            settings,
            int(about["placed"]),
            laid_out,
        )
    except (ValueError, KeyError) as error:
        raise GalleryDamagedError(
            f"{path} is not a map ({error}): delete the file; the map is then made again"
        ) from error
    return found if about == _about(gallery, found) else None


def _about(gallery: Gallery, found: GalleryMap) -> dict[str, Any]:
    """The metadata of the file of a map, which says what it was made of, and how."""
    return {
        "format": _FORMAT,
        "version": found.version,
        "laid_out": found.laid_out,
        "placed": found.placed,
        "fingerprint": gallery.fingerprint,
        "contents": contents_hash(gallery),
        "settings": asdict(found.settings),
    }


def _folder(gallery: Gallery) -> GalleryPlace:
    return root_of(gallery.location) / storage.MAPS_FOLDER


def _name(version: int, laid_out: int) -> str:
    return f"{storage.version_name(version)}-{storage.version_name(laid_out)}.parquet"


def _stored(folder: GalleryPlace) -> Iterator[tuple[int, int, GalleryPlace]]:
    """Version, version laid out, and file of each stored map, the latest first."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    names |= checksums.recorded(folder)  # so that a deleted one is noticed
    for name in sorted(names, reverse=True):
        if match := _NAME.fullmatch(name):
            yield int(match[1]), int(match[2]), folder / name
