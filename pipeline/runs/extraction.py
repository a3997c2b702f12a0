"""Bring a gallery up to date with its source in one version, or report what that would take."""

import logging
import os
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.limits import MAX_BYTES
from pipeline.archive.listing.source import Listing
from pipeline.archive.planning.changes import ROW_COLUMNS, SourceChanges, compare, settle_doubtful
from pipeline.archive.planning.units import Units
from pipeline.archive.video.listing import list_archive
from pipeline.archive.video.rules import BoxSettings
from pipeline.errors import InputError
from pipeline.gallery import opening
from pipeline.gallery.files.schema import content_hash, row_schema
from pipeline.gallery.files.unit_files import UnitTarget
from pipeline.gallery.sidecars.seen import add_seen, read_seen
from pipeline.gallery.table import Gallery
from pipeline.large_tables import ByPath
from pipeline.model.fetched_networks import network_file
from pipeline.model.functions import NetworkFunction
from pipeline.model.networks import NetworkFile
from pipeline.report.figures import counts_line
from pipeline.runs.oddities import warn_of_oddities
from pipeline.runs.outcomes import Extracted, Planned
from pipeline.runs.pace import soonest
from pipeline.runs.reporting import reported
from pipeline.runs.settings import (
    ActorSettings,
    RecipeSettings,
    UpdateSettings,
    WorkSettings,
    stated,
)
from pipeline.runs.target import GallerySpec, gallery_spec
from pipeline.runs.units import (
    Cut,
    commit_units,
    cut_units,
    extract_units,
    keep_plan,
    may_stay,
    on_cluster,
)
from pipeline.schemas import REJECT_SCHEMA, TIMESTAMP
from pipeline.stages.execution import StartProgress, silent
from pipeline.stages.extract import UnitExtractor, Work

ALWAYS_ALLOWED_REJECTS = 10
"""A run never stops for this many rejects or fewer, even if it has few images."""

SAMPLED_BATCHES = 2
"""Number of network batches that a preview extracts to estimate the total time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UpdatePlan:
    """One update of a gallery: the listing of its source, and all settings."""

    listing: Listing
    spec: GallerySpec
    update: UpdateSettings = UpdateSettings()
    work: WorkSettings = WorkSettings()
    actors: ActorSettings = ActorSettings()

    @property
    def made_by(self) -> str:
        """The settings that rows depend on: units with other settings are other units."""
        return f"{self.spec.recipe.fingerprint} {self.work.least_quality}"

    def work_for(self, target: UnitTarget) -> Work:
        """What each worker needs to extract units into `target`."""
        return Work(
            root=self.listing.root,
            target=target,
            model=self.spec.model,
            batch_size=self.actors.batch_size,
            precision=self.actors.precision,
            threads=self.actors.num_cpus or 1,
            max_pixels=self.work.max_pixels,
            max_bytes=self.work.max_bytes,
            on_gpu=bool(self.actors.num_gpus),
            least_quality=self.work.least_quality,
        )

    def cut(self, present: Gallery | None, changes: SourceChanges) -> Cut:
        """The work units of new and changed images; writes nothing."""
        images = changes.new_or_changed
        return cut_units(present, images, self.work.unit_size, made_by=self.made_by)


def extract(
    source: str,
    location: str,
    network: str | NetworkFile | NetworkFunction,
    *,
    layout: str = "none",
    labels: LabelSettings = LabelSettings(),
    boxes: BoxSettings = BoxSettings(),
    recipe: RecipeSettings = RecipeSettings(),
    update: UpdateSettings = UpdateSettings(),
    work: WorkSettings = WorkSettings(),
    actors: ActorSettings = ActorSettings(actors=0),
    not_before: datetime | None = None,
    progress: StartProgress = silent,
) -> Extracted:
    """Make the gallery at `location` from a source, or bring it up to date; in this process.

    `source` is a folder, a tar or a manifest, or videos with boxes (see `list_archive`), of which
    `boxes` choose some. `network` is a file (a path or a URL), or a `NetworkFunction` of your own
    (then `recipe` has no meaning and must be left out). With `actors` above 0 it runs on Ray.
    Images captured before `not_before` are left out, unless the gallery has them. Raise InputError
    before anything is written if an argument cannot be used.
    """
    described = labels.described(layout)
    if isinstance(network, NetworkFunction):
        if stated(recipe):
            raise InputError("a network function does its own preprocessing: leave out `recipe`")
        spec = GallerySpec(location, network, described, actors.precision, work.storage)
        if opening.exists(location):
            spec.check(Gallery.open(location))
    else:
        file = network_file(network) if isinstance(network, str) else network
        spec = gallery_spec(location, file, recipe, described, actors.precision, work.storage)
    opening.check_writable(location)
    listing = list_archive(source, layout, labels, boxes, afresh=update.verify)
    if not_before is not None:
        listing = _without_old(listing, location, not_before)
    return update_gallery(UpdatePlan(listing, spec, update, work, actors), progress)


def _without_old(listing: Listing, location: str, limit: datetime) -> Listing:
    """The listing without the images captured before `limit` that the gallery does not have."""
    oldest = pa.scalar(limit, TIMESTAMP)
    is_old = pc.fill_null(pc.less(listing.images["captured_at"], oldest), False)
    if opening.exists(location):
        rows = Gallery.open(location).rows(["path", "captured_at"])
        held = rows.filter(pc.less(rows["captured_at"], oldest))["path"].combine_chunks()
        is_old = pc.and_not(is_old, pc.is_in(listing.images["path"], value_set=held))
    count = pc.sum(is_old).as_py() or 0
    if not count:
        return listing
    return replace(
        listing,
        images=listing.images.filter(pc.invert(is_old)).combine_chunks(),
        skipped=listing.skipped | {"(captured before what is kept)": count},
    )


def update_gallery(plan: UpdatePlan, progress: StartProgress = silent) -> Extracted:
    """Extract what is new or changed, and commit it as one version; create a missing gallery."""
    listing, spec = plan.listing, plan.spec
    if plan.actors.actors == 0 and plan.actors.address:
        _log.warning("`address` has no effect with `actors` 0: the work is done in this process")
    limit = reject_limit(listing, plan.work.max_rejects)
    with ExitStack() as stack:
        dimension = None
        if not opening.exists(spec.location):
            dimension = spec.dimension(plan.actors.batch_size)
            if plan.actors.actors != 0 and not may_stay(plan.actors):
                # Wrong resources are an error before anything is written, too.
                stack.enter_context(on_cluster(plan.actors))
        lock = stack.enter_context(opening.lock_gallery(spec.location, f"extract {listing.root}"))
        report = stack.enter_context(reported(lock, progress))
        if dimension is not None and not opening.exists(spec.location):
            spec.create(dimension, listing.root, lock)
        present = Gallery.open(spec.location)
        # Check again: another run may have created or changed it before we got the lock.
        spec.check(present)
        spec.check_source(present, listing)
        changes = find_changes(present, listing, plan.update, plan.work.max_bytes)
        cut = plan.cut(present, changes)
        keep_plan(present, cut, lock)
        done, actors = extract_units(
            cut,
            plan.work_for(present.target),
            plan.actors,
            listed_rejects=len(listing.rejects),
            limit=limit,
            report=report,
        )
        odd = [each for record in done for each in record.oddities]
        warn_of_oddities(odd, listing.root, spec.model.stretch, of=sum(each.rows for each in done))
        delete = plan.update.delete_missing
        removes = changes.missing if delete else changes.missing[:0]
        forget = changes.mended + (changes.missing_rejects if delete else [])
        after = commit_units(
            present,
            done,
            lock,
            listed_rejects=listing.rejects,
            removes=removes,
            forget=forget,
            paths=cut.planned["path"],
        )
        if len(changes.touched):
            add_seen(after.location, changes.touched, after.row_ids())
    return Extracted(
        **_source_counts(listing, changes),
        gallery=spec.location,
        version=after.version,
        removed=len(removes),
        rejected=sum(record.rejects for record in done),
        rejects=_reasons(after.rejects()),
        actors=actors,
        units=len(done),
        units_resumed=len(cut.finished),
        rows=after.count,
        dimension=after.dimension,
        fingerprint=after.fingerprint,
    )


def preview_update(plan: UpdatePlan) -> Planned:
    """What `update_gallery` would do now, and how long it would take; writes nothing."""
    listing, spec = plan.listing, plan.spec
    reject_limit(listing, plan.work.max_rejects)
    present = Gallery.open(spec.location) if opening.exists(spec.location) else None
    if present is None:
        changes = compare(listing, ByPath(_row_columns(listing)), REJECT_SCHEMA.empty_table())
    else:
        spec.check_source(present, listing)
        changes = find_changes(present, listing, plan.update, plan.work.max_bytes)
    cut = plan.cut(present, changes)
    todo = cut.todo.images
    sampled, seconds, row_bytes = 0, 0.0, 0.0
    if todo:
        target = present.target if present is not None else _target(plan)
        sampled, seconds, row_bytes = _sample(cut.todo, plan.work_for(target))
    workers, whole = max(1, plan.actors.actors or 1), seconds * todo
    if may_stay(plan.actors):
        workers, whole = soonest(whole, len(os.sched_getaffinity(0)))
    else:
        whole /= workers
    return Planned(
        **_source_counts(listing, changes),
        gallery=spec.location,
        removed=len(changes.missing) if plan.update.delete_missing else 0,
        rejects=_reasons(listing.rejects),
        to_extract=todo,
        bytes_to_extract=sum(pc.sum(unit.members["size"]).as_py() or 0 for unit in cut.todo),
        units=len(cut.todo),
        units_resumed=len(cut.finished),
        sampled=sampled,
        seconds_an_image=seconds,
        workers=workers,
        seconds=whole,
        disk_bytes=round(row_bytes * todo),
    )


def find_changes(
    present: Gallery, listing: Listing, update: UpdateSettings, max_bytes: int = MAX_BYTES
) -> SourceChanges:
    """Find how the listing differs from the gallery; read the images that may have changed."""
    held = ByPath(_row_columns(listing))
    for some in present.row_parts(held.schema.names):
        held.add(some)
    changes = compare(
        listing,
        held,
        present.rejects(),
        seen=read_seen(present.location),
        verify=update.verify,
    )
    if len(changes.doubtful):
        _log.info("comparing the bytes of %d images", len(changes.doubtful))
        changes = settle_doubtful(changes, listing.root, content_hash, max_bytes=max_bytes)
    missing = len(changes.missing)
    if update.delete_missing and missing > update.max_missing * present.count:
        raise InputError(
            f"{missing:,} of the {present.count:,} rows of {present.location} have no image in"
            f" {listing.root}, and at most a share of {update.max_missing:g} may be removed"
            " (`max_missing`): check that the whole source is there (mounted, not emptied), or"
            " raise `max_missing`"
        )
    return changes


def reject_limit(listing: Listing, share: float) -> int:
    """The allowed number of rejects; raise InputError if the listing alone has more."""
    inputs = len(listing.images) + len(listing.rejects)
    limit = max(ALWAYS_ALLOWED_REJECTS, int(share * inputs))
    if len(listing.rejects) > limit:
        first = listing.rejects.slice(0, 1).to_pylist()[0]
        raise InputError(
            f"{len(listing.rejects)} of {inputs} inputs in {listing.root} were rejected"
            f" ({counts_line(_reasons(listing.rejects))}); the limit is {limit} (`max_rejects`)."
            f" First: {first['path']}: {first['detail']}"
        )
    return limit


def _sample(todo: Units, work: Work) -> tuple[int, float, float]:
    """Extract a sample spread over all images: its size, and seconds and bytes for each image."""
    sample = todo.sample(SAMPLED_BATCHES * work.batch_size)
    count = len(sample)
    extractor = UnitExtractor(work)
    extractor.compute(sample.slice(0, work.batch_size))  # the first batch is slower than others
    begin = time.perf_counter()
    computed = extractor.compute(sample)
    seconds = time.perf_counter() - begin
    warn_of_oddities(computed.oddities, work.root, work.model.stretch, of=count)
    return count, seconds / count, computed.rows.nbytes / count


def _target(plan: UpdatePlan) -> UnitTarget:
    """The target of a gallery that does not exist yet."""
    spec = plan.spec
    dimension = spec.dimension(plan.actors.batch_size)
    return UnitTarget(spec.location, spec.recipe.fingerprint, dimension, spec.storage or "float32")


def _row_columns(listing: Listing) -> pa.Schema:
    """The columns of a gallery's rows that are compared with a listing."""
    return pa.schema([row_schema(1).field(name) for name in (*ROW_COLUMNS, *listing.label_names)])


def _source_counts(listing: Listing, changes: SourceChanges) -> dict[str, Any]:
    """The fields of `SourceCounts`."""
    return {
        "images": len(listing.images),
        "new": len(changes.new),
        "changed": len(changes.changed),
        "unchanged": changes.unchanged,
        "touched": len(changes.touched),
        "missing": len(changes.missing),
        "skipped": listing.skipped,
        "labels": listing.found,
    }


def _reasons(rejects: pa.Table) -> dict[str, int]:
    return dict(Counter(rejects["reason"].to_pylist()).most_common())
