"""The versions of a gallery: when each came, by which run, and what it changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import InputError
from pipeline.gallery.log import transactions as log


@dataclass(frozen=True)
class VersionInfo:
    """One version: when it came, by which run, and what it changed."""

    version: int
    timestamp: datetime
    operation: str
    run_id: str | None
    rows_added: int
    rows_removed: int
    rejects: int


def versions(root: Path, version: int) -> list[VersionInfo]:
    """The versions that can still be read, up to this one, oldest first."""
    return [_version_info(entry) for entry in log.history(root, version)]


def version_at(root: Path, at: datetime) -> int:
    """The version that was the latest at a time; raises `InputError` if none is that old."""
    known = versions(root, log.read(root).version)
    then = [each.version for each in known if each.timestamp <= at]
    if not then:
        raise InputError(
            f"{root}: no version is as old as {at.isoformat()}; the oldest left is version "
            f"{known[0].version} of {known[0].timestamp.isoformat(timespec='seconds')}"
        )
    return then[-1]


def _version_info(entry: Mapping[str, object]) -> VersionInfo:
    about = entry.get("regallery")
    about = about if isinstance(about, dict) else {}
    return VersionInfo(
        version=int(str(entry["version"])),
        timestamp=datetime.fromtimestamp(int(str(entry["timestamp"])) / 1000, UTC),
        operation=str(entry.get("operation", "")),
        run_id=about.get("run_id"),
        rows_added=about.get("rows_added", 0),
        rows_removed=about.get("rows_removed", 0),
        rejects=about.get("rejects", 0),
    )
