"""Normalization of features by camera, with the statistics that are kept with a gallery."""

import logging
from dataclasses import dataclass
from typing import cast

import pyarrow as pa

from pipeline.core.blocks import FeatureRows
from pipeline.core.cameras.normalization import CameraMode, CameraNormalization, normalize_cameras
from pipeline.core.cameras.sums import CameraSums
from pipeline.errors import InputError, RunError
from pipeline.gallery.derived import derivation
from pipeline.gallery.labels import camera_numbers
from pipeline.gallery.sidecars.camera_statistics import read_camera_sums, write_camera_sums
from pipeline.gallery.table import Gallery
from pipeline.stages.cameras import sum_cameras
from pipeline.stages.execution import Execution

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cameras:
    """Statistics of a gallery's cameras, and how they normalize features.

    `names` are the names of its cameras, and `sums` the sums of their features.
    """

    settings: CameraNormalization
    names: list[str]
    sums: CameraSums

    @classmethod
    def of(cls, gallery: Gallery, settings: CameraNormalization, execution: Execution) -> "Cameras":
        """Statistics of a version's own rows: the stored sums, or else computed now and stored.

        Log a warning if the gallery's folder cannot be written to. Raise InputError if the features
        are already normalized.
        """
        if normalization_of(gallery):
            raise InputError(
                f"{gallery.location} was made with `camera_normalize`: its features are normalized"
                " already; leave out the flag"
            )
        kept = read_camera_sums(gallery)
        if kept is not None:
            return cls(settings, *kept)
        column = gallery.rows(["camera"])["camera"]
        found = cls.computed(gallery.features(), column, settings, execution)
        try:
            write_camera_sums(gallery, found.names, found.sums)
        except (OSError, InputError, RunError) as error:
            _log.warning("the statistics of the cameras are not stored: %s", error)
        return found

    @classmethod
    def computed(
        cls,
        rows: FeatureRows,
        cameras: pa.ChunkedArray,
        settings: CameraNormalization,
        execution: Execution,
    ) -> "Cameras":
        """Statistics of `rows` `[N, D]` by their cameras (names, `[N]`)."""
        names = cameras.drop_null().unique().sort().to_pylist()
        numbers = camera_numbers(cameras, names)
        sums = sum_cameras(rows, numbers, len(names), execution=execution)
        return cls(settings, names, sums)

    @classmethod
    def kept_with(cls, gallery: Gallery) -> "Cameras | None":
        """The statistics that normalized the features of a derived version; None without."""
        settings, kept = normalization_of(gallery), read_camera_sums(gallery)
        if settings is None:
            return None
        if kept is None:
            raise InputError(
                f"{gallery.location} lacks the statistics that version {gallery.version} was"
                " normalized by; run its expand again"
            )
        return cls(settings, *kept)

    def keep_with(self, gallery: Gallery) -> None:
        """Store them with a derived version that has none: they also normalize its queries."""
        if read_camera_sums(gallery) is None:
            write_camera_sums(gallery, self.names, self.sums)

    def normalize(self, rows: FeatureRows, cameras: pa.ChunkedArray, what: str) -> FeatureRows:
        """Normalize `rows` `[N, D]` of `cameras` (names, `[N]`); the log calls the rows `what`."""
        numbers = camera_numbers(cameras, self.names)
        others = int((~self.settings.own_statistics(self.sums)[numbers]).sum())
        if others:
            _log.warning(
                "%s: %d of %d %s use the statistics of all rows: their camera is unknown, or has"
                " fewer than %d rows in the gallery",
                self.settings.name,
                others,
                len(rows),
                what,
                self.settings.least_rows,
            )
        return normalize_cameras(rows, numbers, self.sums, self.settings)


def normalization_of(gallery: Gallery) -> CameraNormalization | None:
    """How a derived gallery's features were normalized by camera; None if they were not."""
    held = derivation(gallery)
    if held is None or "camera_normalize" not in held.parameters:
        return None
    mode, least_rows = (held.parameters[name] for name in ("camera_normalize", "camera_rows"))
    return CameraNormalization(cast(CameraMode, mode), int(least_rows))
