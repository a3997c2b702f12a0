"""info: show what a gallery holds."""

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.errors import InputError
from pipeline.runs.locations import Location
from pipeline.runs.times import parse_time

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from pipeline.gallery.table import Gallery

_SHOWN_VERSIONS = 10
_SHOWN_REJECTS = 50


@dataclass(frozen=True)
class Info:
    """One version of a gallery, counted; `versions` runs from the oldest to this one."""

    gallery: str
    version: int
    rows: int
    files: int
    bytes: int
    identities: int
    distractors: int
    junk: int
    rows_by_camera: dict[str, int]
    nulls: dict[str, int]
    rejects: dict[str, int]
    dimension: int
    storage: str
    derived: str | None
    """If the features were computed from another gallery's: how, and from which gallery."""
    source: str
    layout: str
    arithmetic: str
    fingerprint: str
    recipe: dict[str, Any]
    calibration: dict[str, Any] | None
    """The calibration that holds for this version. `fits` is true if no row has changed since; a
    `problem` describes a damaged file."""
    versions: list[dict[str, Any]]
    shown: Literal["all", "versions", "rejects"]
    reject_files: list[dict[str, Any]] | None
    """Each input that gave no row, with its reason; only with --rejects."""


def info(
    gallery: Location,
    *,
    version: int | None = None,
    at: str | None = None,
    versions: Annotated[bool, Parameter(negative=())] = False,
    rejects: Annotated[bool, Parameter(negative=())] = False,
) -> Info:
    """Show what a gallery holds: rows by camera, rejects, recipe, calibration and versions.

    For example:

        regallery info --gallery galleries/test

    Args:
        gallery: Folder of the gallery.
        version: Version to show (default: the latest).
        at: Show the version that was latest at this time (ISO 8601, UTC) instead.
        versions: Show only the list of all versions.
        rejects: Show only the files that gave no row, each with its reason.
    """
    if versions and rejects:
        raise InputError("give --versions or --rejects, not both")
    from pipeline.gallery.copies import copied_how
    from pipeline.gallery.derived import derivation
    from pipeline.gallery.summary import summarize_gallery
    from pipeline.gallery.table import Gallery
    from pipeline.model.imported import read_recipe

    table = Gallery.open(gallery, version, parse_time("--at", at))
    counts = asdict(summarize_gallery(table))
    derived = derivation(table)
    return Info(
        gallery=gallery,
        **counts,
        dimension=table.dimension,
        storage=table.dtype,
        derived=str(derived) if derived else copied_how(table),
        source=table.properties["source"],
        layout=table.properties["layout"],
        arithmetic=table.properties["precision"],
        fingerprint=table.fingerprint,
        recipe=asdict(read_recipe(table.recipe_json)),
        calibration=_calibration_state(table),
        versions=[asdict(each) for each in table.history()],
        shown="versions" if versions else "rejects" if rejects else "all",
        reject_files=table.rejects().to_pylist() if rejects else None,
    )


def _calibration_state(gallery: "Gallery") -> dict[str, Any] | None:
    """The calibration, or what is wrong with its file."""
    from pipeline.gallery.files.storage import GalleryDamagedError
    from pipeline.gallery.sidecars.calibrations import standing

    try:
        held = standing(gallery)
    except GalleryDamagedError as error:
        return {"problem": str(error)}
    return asdict(held) | {"fits": held.fits} if held else None


def describe(result: Info) -> RenderableType:
    """Facts in two columns, then the latest versions."""
    from pipeline.report.figures import count, counts_line, scalar

    if result.shown == "versions":
        return _versions(result.versions)
    if result.shown == "rejects":
        return _rejects(result.reject_files or [])
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    shown = {
        "gallery": f"{result.gallery}, version {result.version}",
        "source": f"{result.source} (layout {result.layout})",
        "rows": f"{result.rows:,} in {count(result.files, 'file')}, {result.bytes:,} bytes",
        "features": f"{result.dimension} x {result.storage}, computed in {result.arithmetic}",
        **({"derived": result.derived} if result.derived else {}),
        "identities": f"{result.identities:,}; {result.distractors:,} distractor rows,"
        f" {result.junk:,} junk rows",
        "cameras": counts_line(result.rows_by_camera) or "unknown",
        "unknown values": counts_line(result.nulls) or "none",
        "rejects": counts_line(result.rejects) or "none",
        "calibration": _calibration(result.calibration),
        "recipe": result.fingerprint,
        **{f"  {name}": scalar(value) for name, value in result.recipe.items()},
    }
    for name, text in shown.items():
        facts.add_row(name, Text(text))
    return Group(facts, Text(), _versions(result.versions[-_SHOWN_VERSIONS:]))


def _calibration(held: dict[str, Any] | None) -> str:
    """The threshold, the data that gave it, and whether the gallery has changed since."""
    from pipeline.report.figures import count

    if held is None:
        return "none (regallery calibrate finds a threshold)"
    if "problem" in held:
        return str(held["problem"])
    how = ", ".join(f"{name} {value:g}" for name, value in held["parameters"].items())
    text = f"threshold {held['threshold']:.4f} by {held['rule']} ({how})"
    if held["camera_pairs"]:
        text += f", and {count(held['camera_pairs'], 'pair')} of cameras"
    text += f", of version {held['version']}"
    if held["query"] is not None:
        text += f" with the queries {held['query']}, version {held['query_version']}"
    if held["calibrated_at"] is not None:
        text += f", {held['calibrated_at']:%Y-%m-%d %H:%M} UTC"
    if held["fits"]:
        return f"{text}; no row has changed since"
    if held["rows_added"] is None:
        return f"{text}; it is unknown which rows have changed since: calibrate again"
    return (
        f"{text}; since then {count(held['rows_added'], 'row')} were added and"
        f" {held['rows_removed']:,} removed: calibrate again if these are many"
    )


def _rejects(rejects: list[dict[str, Any]]) -> RenderableType:
    """The first rejects, then how many there are."""
    from pipeline.report.figures import count

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("reason")
    table.add_column("path", overflow="fold")
    table.add_column("detail", overflow="fold")
    for each in rejects[:_SHOWN_REJECTS]:
        table.add_row(each["reason"], Text(each["path"]), Text(each["detail"]))
    total = count(len(rejects), "reject")
    if len(rejects) > _SHOWN_REJECTS:
        total += f"; {len(rejects) - _SHOWN_REJECTS:,} are not shown (--json has all)"
    return Group(table, Text(total)) if rejects else Text(total)


def _versions(versions: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("version", "time", "rows added", "removed", "rejects", "run"):
        table.add_column(name, justify="right" if name not in ("time", "run") else "left")
    for each in versions:
        table.add_row(
            str(each["version"]),
            each["timestamp"].isoformat(sep=" ", timespec="seconds"),
            f"{each['rows_added']:,}",
            f"{each['rows_removed']:,}",
            f"{each['reject_count']:,}",
            each["run_id"] or f"{each['operation']} by another tool",
        )
    return table


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["info", *sys.argv[1:]]))
