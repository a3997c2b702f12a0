"""extract: make a gallery, or bring it up to date with its source."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from jobs.command.flags import ActorFlags, BoxFlags, LabelFlags, RecipeFlags, UpdateFlags, WorkFlags
from jobs.command.progress import progress_lines
from pipeline.archive.layouts.rules import AS_THEY_ARE
from pipeline.archive.video.rules import ALL_BOXES
from pipeline.runs.locations import Location
from pipeline.runs.outcomes import Extracted, Planned
from pipeline.runs.settings import ActorSettings, RecipeSettings, UpdateSettings, WorkSettings

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from pipeline.archive.listing.findings import FoundLabels


def extract(
    source: Location,
    /,
    *,
    gallery: Location,
    model: Location,
    checkpoint: Location | None = None,
    layout: str = "none",
    labels: LabelFlags = AS_THEY_ARE,
    boxes: BoxFlags = ALL_BOXES,
    update: UpdateFlags = UpdateSettings(),
    recipe: RecipeFlags = RecipeSettings(),
    work: WorkFlags = WorkSettings(),
    on: ActorFlags = ActorSettings(),
) -> Extracted | Planned:
    """Make a gallery, or bring it up to date with its source.

    Only images that are new or have changed are extracted. After an
    interruption, run the same command again: it resumes with the work
    units that are not finished.

    For example:

        regallery extract market/bounding_box_test --layout market1501
        --gallery galleries/test --model osnet_x0_25_msmt17.onnx --flip

    Args:
        source: Folder of images, with subfolders and tars; a tar; or a manifest (csv, parquet). Or
            a video with a box file beside it, a folder of those, a table of videos (csv, parquet),
            or a box file that names its pictures or videos (COCO, CVAT, table).
        gallery: Folder of the gallery; created if it does not exist.
        model: ONNX file, OpenVINO IR (.xml), TorchScript or torch.export file, by its path or URL;
            or a built-in network (osnet_x1_0, bnneck, torchvision:NAME, ...) with --checkpoint.
        checkpoint: File of weights for a built-in network, by its path or URL.
        layout: How identity and camera are read from names: a data set (market1501, msmt17,
            dukemtmc, cuhk03-np, veri776, ltcc, prcc, mars, sysu-mm01, ...), image-folder, none, or
            a template such as {camera}/{date}/{identity}_{frame}.jpg.
    """
    # What is quick to check is checked before torch and Ray are loaded.
    from pipeline.archive.listing.source import check_source
    from pipeline.archive.video.listing import list_archive
    from pipeline.gallery.opening import check_location, check_writable
    from pipeline.model.kinds import check_network_file

    check_source(source, layout, labels)
    check_network_file(model)
    (check_location if update.dry_run else check_writable)(gallery)
    with progress_lines() as progress:
        progress("loading the network, listing the source", None)
        from pipeline.model.fetched_networks import network_file
        from pipeline.runs.extraction import UpdatePlan, preview_update, update_gallery
        from pipeline.runs.target import gallery_spec

        network = network_file(model, checkpoint)
        read = labels.described(layout)
        spec = gallery_spec(gallery, network, recipe, read, on.precision, work.storage)
        listing = list_archive(source, layout, labels, boxes, afresh=update.verify)
        plan = UpdatePlan(listing, spec, update, work, on)
        return preview_update(plan) if update.dry_run else update_gallery(plan, progress)


def describe(result: Extracted | Planned) -> RenderableType:
    """A few lines: what the source holds, what was or would be done, the gallery's version."""
    from pipeline.report.figures import count, counts_line

    lines = [
        f"{result.images:,} images: {result.new:,} new, {result.changed:,} changed,"
        f" {result.unchanged:,} unchanged",
    ]
    if result.labels:
        lines.append(_labels(result.labels))
    if result.touched:
        lines.append(f"{result.touched:,} of these have a new modification time and the same bytes")
    if result.skipped:
        lines.append("skipped files (not images): " + counts_line(result.skipped))
    if result.missing:
        lines.append(f"{result.missing:,} rows have lost their image in the source{_fate(result)}")
    if result.units_resumed:
        lines.append(f"resumed: {count(result.units_resumed, 'work unit')} finished earlier")
    if result.rejects:
        lines.append(f"rejects: {counts_line(result.rejects)}")
    lines += _plan(result) if isinstance(result, Planned) else [_standing(result)]
    return Group(*(Text(line) for line in lines))


def _labels(found: "FoundLabels") -> str:
    """The labels found in the source, with an example, so that users can check them."""
    from pipeline.report.figures import count

    people, places = map(_first, (found.first_identities, found.first_cameras))
    parts = [
        count(found.identities, "identity", "identities") + people(found.identities),
        count(found.cameras, "camera") + places(found.cameras),
    ]
    kinds = {"junk": found.junk, "distractors": found.distractors, "without label": found.unknown}
    parts += [f"{number:,} {kind}" for kind, number in kinds.items() if number]
    who = "unknown" if found.example_identity is None else found.example_identity
    where = "unknown" if found.example_camera is None else found.example_camera
    return f"labels: {', '.join(parts)}; {found.example} is identity {who}, camera {where}"


def _first(names: tuple[object, ...]) -> Callable[[int], str]:
    """The first names, to print after the total number."""

    def shown(number: int) -> str:
        more = ", ..." if number > len(names) else ""
        return f" ({', '.join(map(str, names))}{more})" if names else ""

    return shown


def _fate(result: Extracted | Planned) -> str:
    if not result.removed:
        return "; they are kept (--delete-missing removes them)"
    return " and would be removed" if isinstance(result, Planned) else " and were removed"


def _plan(result: Planned) -> list[str]:
    from pipeline.report.figures import count, seconds

    lines = [
        f"to extract: {result.to_extract:,} images of {result.bytes_to_extract:,} bytes in"
        f" {count(result.units, 'work unit')}"
    ]
    if result.sampled:
        lines.append(
            f"expected: {seconds(result.seconds)} with {count(result.workers, 'worker')}"
            f" ({1000 * result.seconds_an_image:.3g} ms an image, measured on {result.sampled} in"
            f" one process) and {result.disk_bytes:,} bytes of disk"
        )
    return [*lines, "nothing was written"]


def _standing(result: Extracted) -> str:
    return (
        f"{result.gallery}: version {result.version}, {result.rows:,} rows of"
        f" {result.dimension} dimensions, recipe {result.fingerprint[:12]}"
    )


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["extract", *sys.argv[1:]]))
