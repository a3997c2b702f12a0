"""Features without what their cameras add, by the statistics that are kept with a gallery."""

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
    """What a gallery knows of its cameras, and how features are normalized by it.

    `names` are those of its cameras, and `sums` what their features add up to.
    """

    settings: CameraNormalization
    names: list[str]
    sums: CameraSums

    @classmethod
    def of(cls, gallery: Gallery, settings: CameraNormalization, execution: Execution) -> "Cameras":
        """By a version's own rows: the sums kept with it, or computed now and kept.

        Logs a warning where the gallery's folder cannot be written to, so that they are not kept.
        InputError for features that are normalized already.
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
        names = column.drop_null().unique().sort().to_pylist()
        numbers = camera_numbers(column, names)
        sums = sum_cameras(gallery.features(), numbers, len(names), execution=execution)
        try:
            write_camera_sums(gallery, names, sums)
        except (OSError, InputError, RunError) as error:
            _log.warning("the statistics of the cameras are not stored: %s", error)
        return cls(settings, names, sums)

    @classmethod
    def kept_with(cls, gallery: Gallery) -> "Cameras | None":
        """As the features of a derived version were normalized; None if they were not."""
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
        """Keep them with a derived version, if it has none: by them queries are normalized too."""
        if read_camera_sums(gallery) is None:
            write_camera_sums(gallery, self.names, self.sums)

    def normalize(self, rows: FeatureRows, cameras: pa.ChunkedArray, what: str) -> FeatureRows:
        """`rows` `[N, D]`, of `cameras` by name `[N]`, normalized; `what` they are, for the log."""
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
    """How the features of a derived gallery were normalized by camera; None if they were not."""
    held = derivation(gallery)
    if held is None or "camera_normalize" not in held.parameters:
        return None
    mode, least_rows = (held.parameters[name] for name in ("camera_normalize", "camera_rows"))
    return CameraNormalization(cast(CameraMode, mode), int(least_rows))
