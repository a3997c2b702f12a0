"""Outputs elsewhere that were made from erased rows: named after a purge, and purged on request."""

from pathlib import Path

from pipeline.errors import InputError, RunError
from pipeline.gallery.copies import COPIES, rows_without_origin
from pipeline.gallery.derived import derivation
from pipeline.gallery.formats.export import is_export
from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.outputs import EXPANDED, Output, remove
from pipeline.gallery.sidecars.candidates import is_candidates
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep import purge as purging
from pipeline.output_files import has_mark
from pipeline.report.page import FILES
from pipeline.report.templates import is_page
from pipeline.runs.copying import stale_rejects
from pipeline.runs.expanding import settings_of, update_expanded
from pipeline.runs.outcomes import Followed
from pipeline.runs.pair_tables import is_pair_table
from pipeline.runs.tracklets import Feature, update_tracklets


def follow(gallery: Gallery, outputs: tuple[Output, ...], *, purge: bool) -> list[Followed]:
    """List the outputs that may still hold rows which a purge removed; with `purge`, purge those in
    reach.

    Outputs of an expanded gallery are followed, too. Outputs in other outputs' folders come first,
    so that these folders are empty when their turn comes.
    """
    found = []
    for output in sorted(outputs, key=_depth, reverse=True):
        reason: str | None = output.why_of_another
        if purge and not reason:
            reason, others = _purge(gallery, output)
            found += others
        found.append(
            Followed(
                kind=output.kind,
                place=str(output.place),
                host=output.host,
                version=output.version,
                is_removed=reason is None,
                reason=reason or "",
            )
        )
    return found


def _purge(gallery: Gallery, output: Output) -> tuple[str | None, list[Followed]]:
    """Why an output could not be purged (None if it was purged), and the outputs made from it."""

    if output.kind == EXPANDED:
        try:
            return None, _expand_again(gallery, str(output.place))
        except (InputError, RunError) as error:
            return str(error), []
    if output.kind in COPIES:
        try:
            return None, _drop_copies(gallery, str(output.place))
        except (InputError, RunError) as error:
            return str(error), []
    if output.is_gallery:
        return "a gallery of its own: erase the rows there in the same way", []
    return remove(output, _is_ours), []


def _depth(output: Output) -> int:
    """The number of folders that an output is in."""
    return str(output.place).count("/")


def _is_ours(output: Output) -> bool:
    """Whether its files show that a verb of this kind wrote them: only such files are deleted."""
    files = [Path(path) for path in output.files or ()]
    if not isinstance(output.place, Path):
        return False
    match output.kind:
        case "report":
            marks = {output.place / name: mark for name, mark in FILES.items()}
            return all(path in marks and has_mark(path, marks[path]) for path in files)
        case "export":
            return is_export(output.place, files)
        case "link table":
            return files == [output.place] and is_candidates(output.place)
        case "pair table":
            return files == [output.place] and is_pair_table(output.place)
        case "search page":
            return files == [output.place] and is_page(output.place)
    return False


def _expand_again(gallery: Gallery, place: str) -> list[Followed]:
    """Bring an expanded gallery up to date, so that no mean includes the rows, and purge it."""

    derived = Gallery.open(place)
    held = derivation(derived)
    if held is None or gallery.location not in held.parents:
        raise InputError(
            f"{place} was made from another gallery since, not from {gallery.location}"
        )
    parents = [Gallery.open(each) for each in held.parents]
    kept = sum(each.count for each in parents)
    if held.of_tracklets:
        columns = [each.rows(["tracklet"])["tracklet"] for each in parents]
        kept -= sum(each.null_count for each in columns)
    if kept and held.of_tracklets:
        feature: Feature = "medoid" if held.parameters["tracklets"] == "medoid" else "mean"
        update_tracklets(parents, place, feature)
    elif kept:
        update_expanded(Gallery.open(gallery.location), place, *settings_of(held.parameters))
    with lock_gallery(place, f"erase everywhere of {gallery.location}") as lock:
        after = Gallery.open(place)
        if not kept:
            run = f"erase-{after.version}-everywhere"
            after = after.commit([], run_id=run, removes=after.row_ids(), lock=lock)
        purged = purging.purge(after, lock)
    return follow(after, purged.outputs, purge=True)


def _drop_copies(gallery: Gallery, place: str) -> list[Followed]:
    """Remove the copies of purged rows and rejects from a gallery of copies, and purge it."""
    with lock_gallery(place, f"erase everywhere of {gallery.location}") as lock:
        copy = Gallery.open(place)
        after = copy.commit(
            [],
            run_id=f"erase-{copy.version}-everywhere",
            removes=rows_without_origin(copy, gallery),
            forget=stale_rejects(copy, gallery),
            lock=lock,
        )
        purged = purging.purge(after, lock)
    return follow(after, purged.outputs, purge=True)
