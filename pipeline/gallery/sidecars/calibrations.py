"""Thresholds of a gallery: one small JSON file a version, beside the table.

A calibration says what a similarity is worth to the features of one recipe, so it holds for later
versions too, until one is calibrated itself.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.table import Gallery
from pipeline.input_files import parse_json

_log = logging.getLogger(__name__)
_NAME = re.compile(r"(\d{12,})\.json")
_FORMAT = 1


def write_calibration(gallery: Gallery, found: Mapping[str, Any]) -> Path:
    """Keeps what was found on a version, in place of what was found on it before.

    `found` is plain data with a number `threshold`; the version and the recipe's fingerprint are
    set beside it.
    """
    about = {
        "regallery_calibration": _FORMAT,
        "version": gallery.version,
        "fingerprint": gallery.fingerprint,
        **found,
    }
    text = json.dumps(about, indent=2, allow_nan=False) + "\n"
    storage.make_folder(_folder(gallery))
    path = calibration_file(gallery)
    storage.drop_cut_off(path.parent, path.name)
    checksums.write_whole(path, lambda temporary: temporary.write_text(text))
    return path


def calibration_file(gallery: Gallery) -> Path:
    """Where the calibration of this very version is kept, if it has one."""
    return _folder(gallery) / f"{storage.version_name(gallery.version)}.json"


def read_calibration(gallery: Gallery) -> dict[str, Any] | None:
    """What was found on this version, or else on the latest one before it; None if nothing was.

    Raises `GalleryDamagedError` for a file that is gone, or not as `write_calibration` wrote it, or
    that was made with another recipe.
    """
    versions = sorted(_versions(_folder(gallery)), reverse=True)
    version = next((each for each in versions if each <= gallery.version), None)
    if version is None:
        return None
    path = _folder(gallery) / f"{storage.version_name(version)}.json"
    data = checksums.read(path, "calibrate again")
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
    if version != gallery.version:
        _log.info("the threshold is that of version %d (this is %d)", version, gallery.version)
    return dict(about)


def _folder(gallery: Gallery) -> Path:
    return storage.local_root(gallery.location) / storage.CALIBRATIONS_FOLDER


def _versions(folder: Path) -> list[int]:
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    names |= checksums.recorded(folder)  # one that was deleted is not passed over
    return [int(match[1]) for match in map(_NAME.fullmatch, names) if match]
