"""info: show what a gallery holds."""

import sys
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.command.times import moment
from pipeline.runs.locations import Location

_SHOWN_VERSIONS = 10


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
    cameras: dict[str, int]
    nulls: dict[str, int]
    rejects: dict[str, int]
    dimension: int
    storage: str
    derived: str | None
    """How the features were computed from another gallery's, and that gallery."""
    source: str
    layout: str
    precision: str
    fingerprint: str
    recipe: dict[str, Any]
    versions: list[dict[str, Any]]
    versions_only: bool


def info(
    gallery: Location,
    *,
    version: int | None = None,
    at: str | None = None,
    versions: Annotated[bool, Parameter(negative=())] = False,
) -> Info:
    """Show what a gallery holds: rows by camera, rejects by reason, recipe and versions.

    For example:

        regallery info --gallery galleries/test

    Args:
        gallery: Folder of the gallery.
        version: Version to show (default: the latest).
        at: Show the version that was latest at this time (ISO 8601, UTC) instead.
        versions: Show only the list of all versions.
    """
    from pipeline.gallery.derived import derivation
    from pipeline.gallery.summary import summarize
    from pipeline.gallery.table import Gallery
    from pipeline.model.imported import read_recipe

    table = Gallery.open(gallery, version, moment("--at", at))
    counts = asdict(summarize(table))
    derived = derivation(table)
    return Info(
        gallery=gallery,
        **counts,
        dimension=table.dimension,
        storage=table.dtype,
        derived=str(derived) if derived else None,
        source=table.properties["source"],
        layout=table.properties["layout"],
        precision=table.properties["precision"],
        fingerprint=table.fingerprint,
        recipe=asdict(read_recipe(table.recipe_json)),
        versions=[asdict(each) for each in table.history()],
        versions_only=versions,
    )


def describe(result: Info) -> RenderableType:
    """Facts in two columns, then the latest versions."""
    from pipeline.report.figures import count, listed, scalar

    if result.versions_only:
        return _versions(result.versions)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    shown = {
        "gallery": f"{result.gallery}, version {result.version}",
        "source": f"{result.source} (layout {result.layout})",
        "rows": f"{result.rows:,} in {count(result.files, 'file')}, {result.bytes:,} bytes",
        "features": f"{result.dimension} x {result.storage}, computed in {result.precision}",
        **({"derived": result.derived} if result.derived else {}),
        "identities": f"{result.identities:,}; {result.distractors:,} distractor rows,"
        f" {result.junk:,} junk rows",
        "cameras": listed(result.cameras) or "unknown",
        "unknown values": listed(result.nulls) or "none",
        "rejects": listed(result.rejects) or "none",
        "recipe": result.fingerprint,
        **{f"  {name}": scalar(value) for name, value in result.recipe.items()},
    }
    for name, text in shown.items():
        facts.add_row(name, Text(text))
    return Group(facts, Text(), _versions(result.versions[-_SHOWN_VERSIONS:]))


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
            f"{each['rejects']:,}",
            each["run_id"] or "",
        )
    return table


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["info", *sys.argv[1:]]))
