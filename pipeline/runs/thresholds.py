"""The similarity threshold of a match: from a flag, or from `calibrate`."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.gallery.sidecars.calibrations import read_calibration
from pipeline.gallery.table import Gallery


@dataclass(frozen=True)
class Thresholds:
    """The least similarity of a match, and its origin; None if unknown.

    `by_camera` has the rows' cameras that have a threshold of their own.
    """

    general: float | None
    origin: str | None
    by_camera: Mapping[str, float]

    def of(self, camera: str | None) -> float | None:
        """The threshold for rows of a camera."""
        return self.general if camera is None else self.by_camera.get(camera, self.general)


def thresholds_of(gallery: Gallery, given: float | None, camera: str | None = None) -> Thresholds:
    """The given threshold, or else those of the gallery's calibration.

    If the images come from a `camera`, a row's threshold is that of the pair of cameras, if the
    calibration has one.
    """
    if given is not None:
        return Thresholds(given, "given", {})
    found = read_calibration(gallery)
    if found is None:
        return Thresholds(None, None, {})
    by_camera = {
        each["gallery_camera"]: float(each["figures"]["threshold"])
        for each in found.get("by_camera") or []
        if each["query_camera"] == camera and each["figures"] is not None
    }
    origin = f"calibration of version {found['version']}"
    if by_camera:
        origin += f"; rows of {', '.join(by_camera)} have their own"
    return Thresholds(float(found["threshold"]), origin, by_camera)
