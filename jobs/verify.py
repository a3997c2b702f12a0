"""verify: check every file and row of a gallery."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import RenderableType
from rich.text import Text

from jobs.command.progress import working
from pipeline.runs.locations import Location

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from pipeline.gallery.table import Gallery


@dataclass(frozen=True)
class VerifyResult:
    """What was checked, and what was not; `findings` name each faulty file and what is wrong."""

    gallery: str
    version: int
    versions_verified: int
    files_verified: int
    bytes_verified: int
    rows_verified: int
    without_checksum: int
    other_commits: tuple[str, ...]
    findings: list[dict[str, Any]]
    not_checked: tuple[str, ...]

    @property
    def exit_status(self) -> int:
        """1 if anything was found."""
        return 1 if self.findings else 0


def verify(
    gallery: Location,
    *,
    version: int | None = None,
    all_versions: Annotated[bool, Parameter(negative=())] = False,
) -> VerifyResult:
    """Check every file and row of a gallery, and report everything that is wrong.

    Checks the size and SHA-256 of each file, the checksums of its pages,
    the length of every feature, that row ids and paths are unique,
    rejects, the counts and statistics of the log, the recipe, the log
    itself, and the files beside it: thresholds, statistics of cameras,
    neighbor graphs, the work of interrupted runs. Changes nothing, and
    says what it did not check. The exit status is 1 if anything is wrong.

    For example:

        regallery verify --gallery galleries/test

    Args:
        gallery: Folder of the gallery.
        version: Version to check (default: the latest).
        all_versions: Also check the files that only older versions need.
    """
    from dataclasses import asdict

    from pipeline.errors import InputError
    from pipeline.gallery.derived import derivation, derived_fingerprint
    from pipeline.gallery.files.storage import GalleryDamagedError
    from pipeline.gallery.table import Gallery
    from pipeline.gallery.upkeep.verify import verify_at
    from pipeline.model.imported import read_recipe

    with working("verifying"):
        found = asdict(verify_at(gallery, version, all_versions=all_versions))
    findings = list(found.pop("findings"))
    not_checked: tuple[str, ...] = ()
    try:
        table = Gallery.open(gallery, version)
        not_checked = _not_checked(table, found["versions_verified"])
        wanted, derived = read_recipe(table.recipe_json).fingerprint, derivation(table)
        if derived is not None:
            wanted = derived_fingerprint(wanted, derived.parameters)
        if wanted != table.fingerprint:
            raise InputError("the recipe in the log does not have the fingerprint that it names")
    except (InputError, GalleryDamagedError) as error:
        if not findings:
            findings.append({"file": "_delta_log", "problem": str(error)})
    return VerifyResult(gallery=gallery, findings=findings, not_checked=not_checked, **found)


def _not_checked(gallery: "Gallery", versions: int) -> tuple[str, ...]:
    """What a verification of this many versions does not check, and which command does."""
    from pipeline.gallery.copies import copied_how
    from pipeline.gallery.derived import derivation

    left = []
    others = len(gallery.history()) - versions
    if others > 0:
        left.append(f"the files that only older versions need, {others:,} (--all-versions)")
    derived, source = derivation(gallery), gallery.properties["source"]
    if (how := copied_how(gallery)) is not None:
        left.append(f"whether its rows are still those that it was {how} (the same command again)")
    elif derived is None:
        left.append(f"whether rows still fit {source} (extract --verify --dry-run)")
    else:
        verb = "tracklets" if derived.of_tracklets else "expand"
        left.append(f"whether features still follow from {derived.parent} ({verb})")
    return (
        *left,
        "what was made from this gallery elsewhere: expanded galleries, exports, reports",
    )


def describe(result: VerifyResult) -> RenderableType:
    """A line for each finding, then what was checked."""
    from pipeline.report.figures import count

    lines = [f"{each['file']}: {each['problem']}" for each in result.findings]
    checked = (
        f"version {result.version}: {count(result.rows_verified, 'row')},"
        f" {count(result.files_verified, 'file')} of {result.bytes_verified:,} bytes"
    )
    if result.versions_verified > 1:
        checked += f", those of {count(result.versions_verified - 1, 'older version')} included"
    if result.findings:
        lines.append(f"{result.gallery}, {checked}: {count(len(lines), 'finding')}")
    elif result.without_checksum:
        lines.append(f"{result.gallery}, {checked}: nothing wrong was found")
    else:
        lines.append(f"{result.gallery}, {checked}: everything is as it was written")
    lines += [f"{each}: by another tool" for each in result.other_commits]
    if result.without_checksum:
        lines.append(
            f"not checked: the bytes of {count(result.without_checksum, 'file')} that another tool"
            " wrote, without a SHA-256 in the log (compact rewrites those of this version)"
        )
    lines += [f"not checked: {each}" for each in result.not_checked]
    return Text("\n".join(lines))


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["verify", *sys.argv[1:]]))
