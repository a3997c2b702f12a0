"""extract: make a gallery, or bring it up to date with its source."""

import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.arguments import Location
from jobs.flags import ActorFlags, RecipeFlags, stated
from pipeline.errors import InputError

if TYPE_CHECKING:  # imported where they are used, so that --help answers at once
    import pyarrow as pa

    from pipeline.archive.listing import Listing
    from pipeline.gallery.lock import Lock
    from pipeline.gallery.table import Gallery
    from pipeline.model.networks import NetworkFile
    from pipeline.model.recipe import Recipe

ALWAYS_ALLOWED_REJECTS = 10
"""So many rejects never stop a run, however few its images are."""

NO_RECIPE_FLAGS = RecipeFlags()
DEFAULT_ACTORS = ActorFlags()


@dataclass(frozen=True)
class Extracted:
    """What a run of extract found and did.

    The source's `images` are `new`, `changed` or `unchanged`; `rejected` of the new and changed
    ones gave no row. `rejects` counts all rejects of the gallery by reason, those of names
    included, `skipped` the files that are no images by suffix, and `missing` the gallery's rows
    whose image is gone from the source (they stay).
    """

    gallery: str
    version: int
    images: int
    new: int
    changed: int
    unchanged: int
    missing: int
    rejected: int
    rejects: dict[str, int]
    skipped: dict[str, int]
    units: int
    units_found_finished: int
    rows: int
    dimension: int
    fingerprint: str


def extract(
    source: Location,
    /,
    *,
    gallery: Location,
    model: Location,
    checkpoint: Location | None = None,
    layout: str = "none",
    storage: Literal["float32", "float16"] | None = None,
    unit_size: int = 1024,
    max_rejects: float = 0.01,
    max_pixels: int = 50_000_000,
    recipe: RecipeFlags = NO_RECIPE_FLAGS,
    on: ActorFlags = DEFAULT_ACTORS,
) -> Extracted:
    """Make a gallery, or bring it up to date with its source.

    Only images that are new or have changed are extracted. Run again after
    an interruption, the command goes on with the work units that are not
    finished.

    For example:

        regallery extract market/bounding_box_test --layout market1501
        --gallery galleries/test --model osnet_x0_25_msmt17.onnx --flip

    Args:
        source: Folder of images, its subfolders included, or a manifest (.csv, .parquet).
        gallery: Folder of the gallery; made where there is none.
        model: ONNX file, OpenVINO IR (.xml), TorchScript or torch.export file, or torchvision:NAME.
        checkpoint: Weights of a torchvision backbone.
        layout: How names tell identity and camera: market1501, msmt17, dukemtmc, cuhk03-np,
            veri776, vehicleid, image-folder, none, or a template such as
            {camera}/{date}/{identity}_{frame}.jpg.
        storage: Type of the stored features; float16 halves the gallery (default: float32).
        unit_size: Images in a work unit: the rows of a file, and what a crash can cost.
        max_rejects: Share of the inputs that may be rejects before the run stops; ten always may.
        max_pixels: Pictures of more pixels are rejects.
    """
    if not 0 <= max_rejects <= 1:
        raise InputError(f"--max-rejects is a share from 0 to 1, not {max_rejects}")
    for flag, value in (("--max-pixels", max_pixels), ("--batch-size", on.batch_size)):
        if value < 1:
            raise InputError(f"{flag} must be at least 1, not {value}")
    # What is cheap to find wrong is told before torch and Ray are loaded.
    from pipeline.archive.listing import check_source, list_source
    from pipeline.archive.work_plan import check_unit_size, compare
    from pipeline.gallery import table
    from pipeline.model.kinds import check_file

    check_unit_size(unit_size)
    check_source(source, layout)
    check_file(model)
    table.check_location(gallery)
    from jobs.extraction import commit_units, extract_units, on_cluster, plan_units
    from pipeline.stages.extract import Work

    network, wanted = _recipe(model, checkpoint, recipe)
    present = table.Gallery.open(gallery) if table.exists(gallery) else None
    if present is not None:
        _check_same_kind(present, wanted, layout, on.precision, storage)
    listing = list_source(source, layout)
    limit = _reject_limit(listing, max_rejects)
    with ExitStack() as stack:
        dimension = present.dimension if present else _dimension(network, wanted, on)
        if present is None and on.actors != 0:
            # Wrong resources, too, are told before anything is written.
            stack.enter_context(on_cluster(on))
        lock = stack.enter_context(table.lock_gallery(gallery, f"extract {source}"))
        if not table.exists(gallery):
            _create(
                gallery,
                wanted,
                dimension,
                storage or "float32",
                listing,
                layout,
                on.precision,
                lock,
            )
        present = table.Gallery.open(gallery)
        # Again: another run may have made it, or been at work, until the lock was ours.
        _check_same_kind(present, wanted, layout, on.precision, storage)
        _check_same_source(present, listing)
        rows = present.rows(["path", "size", "mtime"])
        changes = compare(listing.images, listing.rejects, rows, present.rejects())
        todo, finished = plan_units(present, changes.new_or_changed, unit_size, lock)
        work = Work(
            root=listing.root,
            target=present.target,
            network=network,
            recipe=wanted,
            batch_size=on.batch_size,
            precision=on.precision,
            threads=on.num_cpus or 1,
            max_pixels=max_pixels,
            on_gpu=bool(on.num_gpus),
        )
        done = extract_units(
            todo, finished, work, on, listed_rejects=len(listing.rejects), limit=limit
        )
        after = commit_units(present, done, listing.rejects, lock)
    return Extracted(
        gallery=gallery,
        version=after.version,
        images=len(listing.images),
        new=len(changes.new),
        changed=len(changes.changed),
        unchanged=changes.unchanged,
        missing=changes.missing,
        rejected=sum(record.rejects for record in done),
        rejects=_reasons(after.rejects()),
        skipped=listing.skipped,
        units=len(done),
        units_found_finished=len(finished),
        rows=after.count,
        dimension=after.dimension,
        fingerprint=after.fingerprint,
    )


def describe(result: Extracted) -> RenderableType:
    """A few lines: what the source held, what was done, where the gallery stands."""
    lines = [
        f"{result.images:,} images: {result.new:,} new, {result.changed:,} changed,"
        f" {result.unchanged:,} as they were",
    ]
    if result.units_found_finished:
        lines.append(
            f"{result.units_found_finished} of {result.units} work units were finished already"
        )
    if result.missing:
        lines.append(f"{result.missing:,} rows have no image in the source any more; they stay")
    if result.skipped:
        lines.append("skipped, no images: " + _listed(result.skipped))
    if result.rejects:
        lines.append(f"rejects: {_listed(result.rejects)}")
    lines.append(
        f"{result.gallery}: version {result.version}, {result.rows:,} rows of"
        f" {result.dimension} dimensions, recipe {result.fingerprint[:12]}"
    )
    return Group(*(Text(line) for line in lines))


def _recipe(model: str, checkpoint: str | None, flags: RecipeFlags) -> "tuple[NetworkFile, Recipe]":
    """The network's file and the recipe: flags before the recipe file before the defaults."""
    from pipeline.model.networks import NetworkFile, default_recipe
    from pipeline.model.recipe import load_recipe_fields

    network = NetworkFile(model, checkpoint)
    fields = load_recipe_fields(flags.recipe) if flags.recipe else {}
    return network, default_recipe(network, fields | stated(flags, without=("recipe",)))


def _check_same_kind(
    present: "Gallery", wanted: "Recipe", layout: str, precision: str, storage: str | None
) -> None:
    """Refuse to mix features or labels of two kinds in one gallery."""
    from pipeline.model.recipe import Recipe

    if wanted.fingerprint != present.fingerprint:
        held = Recipe.from_json(present.recipe_json)
        different = "; ".join(held.differences(wanted))
        hint = "" if present.count else ", or delete this one: it holds no row"
        raise InputError(
            f"{present.location} was made with another recipe ({different}):"
            f" features of two recipes are never mixed; give a new gallery{hint}"
        )
    if layout != present.properties["layout"]:
        raise InputError(
            f"{present.location} was made with --layout {present.properties['layout']}, not"
            f" {layout}: labels of two layouts are never mixed; give a new gallery"
        )
    if precision != present.properties["precision"]:
        raise InputError(
            f"{present.location} was made with --precision {present.properties['precision']}, not"
            f" {precision}: the features would differ; give a new gallery"
        )
    if storage not in (None, present.dtype):
        raise InputError(
            f"{present.location} stores {present.dtype}, not {storage}; give a new gallery"
        )


def _check_same_source(present: "Gallery", listing: "Listing") -> None:
    """Refuse a second source: a row is known by its path below the first."""
    held = present.properties["source"]
    if held != listing.root:
        raise InputError(
            f"{present.location} holds the images of {held}, named by their paths there: give that"
            f" source, or a new gallery for {listing.root}"
        )


def _reject_limit(listing: "Listing", share: float) -> int:
    """How many inputs may be rejects; told at once where the names alone make more."""
    inputs = len(listing.images) + len(listing.rejects)
    limit = max(ALWAYS_ALLOWED_REJECTS, int(share * inputs))
    if len(listing.rejects) > limit:
        first = listing.rejects.slice(0, 1).to_pylist()[0]
        raise InputError(
            f"{len(listing.rejects)} of {inputs} inputs in {listing.root} are rejects"
            f" ({_listed(_reasons(listing.rejects))}), and {limit} may be: {first['path']}:"
            f" {first['detail']}; mend them or raise --max-rejects"
        )
    return limit


def _dimension(network: "NetworkFile", wanted: "Recipe", on: ActorFlags) -> int:
    """Load the network once before any work, so that one that cannot run is told at once."""
    from pipeline.model.extractor import Extractor

    return Extractor(network, wanted, batch_size=on.batch_size).dimension


def _create(
    gallery: str,
    wanted: "Recipe",
    dimension: int,
    storage: str,
    listing: "Listing",
    layout: str,
    precision: str,
    lock: "Lock",
) -> None:
    from pipeline.gallery.table import Gallery

    Gallery.create(
        gallery,
        recipe_json=wanted.to_json(),
        fingerprint=wanted.fingerprint,
        dimension=dimension,
        dtype=storage,
        source=listing.root,
        layout=layout,
        precision=precision,
        lock=lock,
    )


def _reasons(rejects: "pa.Table") -> dict[str, int]:
    return dict(Counter(rejects["reason"].to_pylist()).most_common())


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["extract", *sys.argv[1:]]))
