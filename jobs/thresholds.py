"""Where the similarity of a match comes from: a flag, or what `calibrate` found."""

from pipeline.gallery.calibrations import read_calibration
from pipeline.gallery.table import Gallery


def threshold_of(gallery: Gallery, given: float | None) -> tuple[float | None, str | None]:
    """The threshold that was given, or else that of the gallery's calibration, and its origin."""
    if given is not None:
        return given, "--threshold"
    found = read_calibration(gallery)
    if found is None:
        return None, None
    return float(found["threshold"]), f"calibration of version {found['version']}"
