"""Thresholds of a gallery: one small JSON file for each calibrated version, beside the table.

A calibration gives the meaning of a similarity for the features of one recipe. So it remains valid
for later versions, until a later version is calibrated.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, root_of
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.table import Gallery
from pipeline.input_files import parse_json
from pipeline.output_files import check_new_folder

_log = logging.getLogger(__name__)
_NAME = re.compile(r"(\d{12,})\.json")
_FORMAT = 1


@dataclass(frozen=True)
class CalibrationState:
    """The calibration that is valid for a version: its contents, and the rows that changed since.

    `calibrated_at` is None if the file does not say; `rows_added` and `rows_removed` are None if
    the log no longer says. `camera_pairs` have a threshold of their own.
    """

    version: int
    calibrated_at: datetime | None
    threshold: float
    rule: str
    parameters: dict[str, float]
    query: str | None
    query_version: int | None
    camera_pairs: int
    rows_added: int | None
    rows_removed: int | None

    @property
    def fits(self) -> bool:
        """Whether the gallery has exactly the rows that were calibrated."""
        return self.rows_added == self.rows_removed == 0


def write_calibration(gallery: Gallery, found: Mapping[str, Any]) -> GalleryPlace:
    """Store the calibration of a version, in place of an earlier one.

    `found` is plain data with a number `threshold`; the version, the recipe's fingerprint and the
    time are set beside it.
    """
    about = {
        "regallery_calibration": _FORMAT,
        "version": gallery.version,
        "fingerprint": gallery.fingerprint,
        "calibrated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **found,
    }
    text = json.dumps(about, indent=2, allow_nan=False) + "\n"
    storage.make_folder(_folder(gallery))
    path = calibration_file(gallery)
    storage.drop_cut_off(path.parent, path.name)
    checksums.write_recorded(path, lambda temporary: temporary.write_text(text))
    return path


def check_calibration(gallery: Gallery) -> None:
    """Check that a calibration can be stored; raise the errors of `check_new_folder`."""
    folder = _folder(gallery)
    if isinstance(folder, Path):
        check_new_folder(folder)


def calibration_file(gallery: Gallery) -> GalleryPlace:
    """The path of this version's own calibration, if it has one."""
    return _folder(gallery) / f"{storage.version_name(gallery.version)}.json"


def read_calibration(gallery: Gallery) -> dict[str, Any] | None:
    """The calibration of this version, or else of the latest one before it; None without.

    Raise `GalleryDamagedError` for a file that is gone, that has changed since `write_calibration`
    wrote it, or that was made with another recipe.
    """
    found = _that_holds(gallery)
    if found is not None and found["version"] != gallery.version:
        _log.info(
            "the threshold is that of version %d (this is %d)", found["version"], gallery.version
        )
    return found


def standing(gallery: Gallery) -> CalibrationState | None:
    """A summary of `read_calibration`; raise its errors."""
    found = _that_holds(gallery)
    if found is None:
        return None
    history = gallery.history()
    since = [each for each in history if each.version > found["version"]]
    is_told = history[0].version <= found["version"] + 1
    time = found.get("calibrated_at")
    pairs = found.get("by_camera") or ()
    return CalibrationState(
        version=found["version"],
        calibrated_at=None if time is None else datetime.fromisoformat(time),
        threshold=float(found["threshold"]),
        rule=str(found.get("rule", "")),
        parameters=dict(found.get("parameters") or {}),
        query=found.get("query"),
        query_version=found.get("query_version"),
        camera_pairs=sum(each["figures"] is not None for each in pairs),
        rows_added=sum(each.rows_added for each in since) if is_told else None,
        rows_removed=sum(each.rows_removed for each in since) if is_told else None,
    )


def _that_holds(gallery: Gallery) -> dict[str, Any] | None:
    """The calibration of this version, or of the latest one before it that has one."""
    versions = sorted(_versions(_folder(gallery)), reverse=True)
    version = next((each for each in versions if each <= gallery.version), None)
    if version is None:
        return None
    path = _folder(gallery) / f"{storage.version_name(version)}.json"
    data = checksums.read_recorded(path, "calibrate again")
    try:
        about = parse_json(data or b"")
        known = about["regallery_calibration"], about["version"], about["fingerprint"]
        float(about["threshold"])
    except (ValueError, KeyError, TypeError) as error:
        raise GalleryDamagedError(
            f"{path}: this is not a calibration ({error}); delete it and calibrate again"
        ) from error
    if known != (_FORMAT, version, gallery.fingerprint):
        raise GalleryDamagedError(
            f"{path}: it was made with another recipe, version or format; delete it and calibrate"
            " again"
        )
    return dict(about)


def _folder(gallery: Gallery) -> GalleryPlace:
    return root_of(gallery.location) / storage.CALIBRATIONS_FOLDER


def _versions(folder: GalleryPlace) -> list[int]:
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    names |= checksums.recorded(folder)  # so that a deleted one is noticed
    return [int(match[1]) for match in map(_NAME.fullmatch, names) if match]
