"""Bring a gallery up to date with a listing, in one version; or tell what that would take."""

import logging
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.command.flags import ActorFlags, UpdateFlags, WorkFlags
from jobs.extract import Extracted, Planned
from pipeline.archive.listing.source import Listing
from pipeline.archive.planning.changes import ROW_COLUMNS, Changes, compare, settle
from pipeline.archive.planning.units import Unit
from pipeline.errors import InputError
from pipeline.gallery import table
from pipeline.gallery.files.rejects import REJECT_SCHEMA
from pipeline.gallery.files.schema import content_hash, row_schema
from pipeline.gallery.files.unit_files import UnitTarget
from pipeline.gallery.sidecars.seen import add_seen, read_seen
from pipeline.gallery.table import Gallery
from pipeline.report.figures import listed
from pipeline.runs.target import Wanted
from pipeline.runs.units import commit_units, cut_units, extract_units, keep_plan, on_cluster
from pipeline.stages.extract import UnitExtractor, Work

ALWAYS_ALLOWED_REJECTS = 10
"""So many rejects never stop a run, however few its images are."""

SAMPLED_BATCHES = 2
"""Batches of the network that a dry run extracts, to tell how long all would take."""

_log = logging.getLogger(__name__)


def bring_up_to_date(
    listing: Listing, wanted: Wanted, update: UpdateFlags, work: WorkFlags, on: ActorFlags
) -> Extracted:
    """Make the gallery where there is none; extract what is new or changed; commit one version."""
    limit = reject_limit(listing, work.max_rejects)
    with ExitStack() as stack:
        dimension = None
        if not table.exists(wanted.location):
            dimension = wanted.dimension(on)
            if on.actors != 0:
                # Wrong resources, too, are told before anything is written.
                stack.enter_context(on_cluster(on))
        lock = stack.enter_context(table.lock_gallery(wanted.location, f"extract {listing.root}"))
        if dimension is not None and not table.exists(wanted.location):
            wanted.create(dimension, listing.root, lock)
        present = Gallery.open(wanted.location)
        # Again: another run may have made it, or been at work, until the lock was ours.
        wanted.check(present)
        wanted.check_source(present, listing)
        changes = find_changes(present, listing, update)
        cut = cut_units(
            present, changes.new_or_changed, work.unit_size, made_by=_made_by(wanted, work)
        )
        keep_plan(present, cut, lock)
        done = extract_units(
            cut,
            _work(present.target, listing, wanted, work, on),
            on,
            listed_rejects=len(listing.rejects),
            limit=limit,
        )
        removes = changes.missing if update.delete_missing else changes.missing[:0]
        forget = changes.mended + (changes.missing_rejects if update.delete_missing else [])
        after = commit_units(
            present, done, lock, listed_rejects=listing.rejects, removes=removes, forget=forget
        )
        if len(changes.touched):
            add_seen(after.location, changes.touched, after.row_ids())
    return Extracted(
        **_found(listing, changes),
        gallery=wanted.location,
        version=after.version,
        removed=len(removes),
        rejected=sum(record.rejects for record in done),
        rejects=_reasons(after.rejects()),
        units=len(done),
        units_found_finished=len(cut.finished),
        rows=after.count,
        dimension=after.dimension,
        fingerprint=after.fingerprint,
    )


def plan_only(
    listing: Listing, wanted: Wanted, update: UpdateFlags, work: WorkFlags, on: ActorFlags
) -> Planned:
    """What `bring_up_to_date` would do now, and what it would take; writes nothing."""
    reject_limit(listing, work.max_rejects)
    present = Gallery.open(wanted.location) if table.exists(wanted.location) else None
    if present is None:
        changes = compare(listing, _no_rows(listing), REJECT_SCHEMA.empty_table())
    else:
        wanted.check_source(present, listing)
        changes = find_changes(present, listing, update)
    cut = cut_units(present, changes.new_or_changed, work.unit_size, made_by=_made_by(wanted, work))
    todo = sum(len(unit.members) for unit in cut.todo)
    sampled, seconds, row_bytes = 0, 0.0, 0.0
    if todo:
        target = present.target if present is not None else _target(wanted, on)
        sampled, seconds, row_bytes = _sample(cut.todo, _work(target, listing, wanted, work, on))
    workers = max(1, on.actors or 1)
    return Planned(
        **_found(listing, changes),
        gallery=wanted.location,
        removed=len(changes.missing) if update.delete_missing else 0,
        rejects=_reasons(listing.rejects),
        to_extract=todo,
        bytes=sum(pc.sum(unit.members["size"]).as_py() or 0 for unit in cut.todo),
        units=len(cut.todo),
        units_found_finished=len(cut.finished),
        sampled=sampled,
        seconds_an_image=seconds,
        workers=workers,
        seconds=seconds * todo / workers,
        disk_bytes=round(row_bytes * todo),
    )


def find_changes(present: Gallery, listing: Listing, update: UpdateFlags) -> Changes:
    """What the listing holds beyond the gallery; images that may have changed are read."""
    changes = compare(
        listing,
        present.rows([*ROW_COLUMNS, *listing.told]),
        present.rejects(),
        seen=read_seen(present.location),
        verify=update.verify,
    )
    if len(changes.doubtful):
        _log.info("comparing the bytes of %d images", len(changes.doubtful))
        changes = settle(changes, listing.root, content_hash)
    missing = len(changes.missing)
    if update.delete_missing and missing > update.max_missing * present.count:
        raise InputError(
            f"{missing:,} of the {present.count:,} rows of {present.location} have no image in"
            f" {listing.root}, and --max-missing lets {update.max_missing:g} of them be removed:"
            " see whether the whole source is there (mounted, not emptied), or raise --max-missing"
        )
    return changes


def reject_limit(listing: Listing, share: float) -> int:
    """How many inputs may be rejects; told at once where the names alone make more."""
    inputs = len(listing.images) + len(listing.rejects)
    limit = max(ALWAYS_ALLOWED_REJECTS, int(share * inputs))
    if len(listing.rejects) > limit:
        first = listing.rejects.slice(0, 1).to_pylist()[0]
        raise InputError(
            f"{len(listing.rejects)} of {inputs} inputs in {listing.root} are rejects"
            f" ({listed(_reasons(listing.rejects))}), and {limit} may be: {first['path']}:"
            f" {first['detail']}; mend them or raise --max-rejects"
        )
    return limit


def _sample(todo: list[Unit], work: Work) -> tuple[int, float, float]:
    """Extract some of the images, spread over all of them: how many, seconds and bytes of one."""
    members = pa.concat_tables([unit.members for unit in todo])
    count = min(len(members), SAMPLED_BATCHES * work.batch_size)
    spread = np.linspace(0, len(members) - 1, count).round().astype(np.int64)
    sample = members.take(pa.array(spread)).combine_chunks()
    extractor = UnitExtractor(work)
    extractor.compute(sample.slice(0, work.batch_size))  # the first batch is slower than others
    begin = time.perf_counter()
    rows, _ = extractor.compute(sample)
    return count, (time.perf_counter() - begin) / count, rows.nbytes / count


def _work(
    target: UnitTarget, listing: Listing, wanted: Wanted, work: WorkFlags, on: ActorFlags
) -> Work:
    return Work(
        root=listing.root,
        target=target,
        network=wanted.network,
        recipe=wanted.recipe,
        batch_size=on.batch_size,
        precision=on.precision,
        threads=on.num_cpus or 1,
        max_pixels=work.max_pixels,
        on_gpu=bool(on.num_gpus),
        least_quality=work.least_quality,
    )


def _made_by(wanted: Wanted, work: WorkFlags) -> str:
    """What rows follow from beside their images: units of other settings are other units."""
    return f"{wanted.recipe.fingerprint} {work.least_quality}"


def _target(wanted: Wanted, on: ActorFlags) -> UnitTarget:
    """The target of a gallery that is not made."""
    return UnitTarget(
        wanted.location,
        wanted.recipe.fingerprint,
        wanted.dimension(on),
        wanted.storage or "float32",
    )


def _no_rows(listing: Listing) -> pa.Table:
    return row_schema(1).empty_table().select([*ROW_COLUMNS, *listing.told])


def _found(listing: Listing, changes: Changes) -> dict[str, Any]:
    """The fields of `Found`."""
    return {
        "images": len(listing.images),
        "new": len(changes.new),
        "changed": len(changes.changed),
        "unchanged": changes.unchanged,
        "touched": len(changes.touched),
        "missing": len(changes.missing),
        "skipped": listing.skipped,
    }


def _reasons(rejects: pa.Table) -> dict[str, int]:
    return dict(Counter(rejects["reason"].to_pylist()).most_common())
