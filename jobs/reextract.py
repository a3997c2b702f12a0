"""re-extract: extract the images of a gallery with another network, into a new gallery."""

import sys
from typing import TYPE_CHECKING

from jobs.command.flags import ActorFlags, RecipeFlags, WorkFlags
from jobs.command.progress import progress_lines
from jobs.extract import describe
from pipeline.runs.locations import Location
from pipeline.runs.outcomes import Extracted
from pipeline.runs.settings import ActorSettings, RecipeSettings, WorkSettings

if TYPE_CHECKING:  # imported where they are used, so that --help answers at once
    from pipeline.archive.listing.source import Listing
    from pipeline.gallery.table import Gallery

OF_THE_NETWORK = ("bad-feature", "kills-worker")
"""Reasons of rejects that may not hold for another network."""

__all__ = ["describe", "reextract"]


def reextract(
    gallery: Location,
    *,
    out: Location,
    model: Location,
    checkpoint: Location | None = None,
    version: int | None = None,
    recipe: RecipeFlags = RecipeSettings(),
    work: WorkFlags = WorkSettings(),
    on: ActorFlags = ActorSettings(),
) -> Extracted:
    """Extract a gallery's images again, into a new gallery.

    Use it for another network or recipe. Paths and labels are copied from
    the rows; the source is not listed. An image that has disappeared
    becomes a reject. Rejects stay rejects, except those caused by the old
    network (bad-feature, kills-worker): the next extract tries them again.
    After an interruption, run the same command again: it resumes.

    For example:

        regallery re-extract --gallery galleries/test --out galleries/test-r50
        --model r50.onnx --flip

    Args:
        gallery: Folder of the gallery whose images are extracted again.
        out: Folder of the new gallery.
        model: ONNX file, OpenVINO IR (.xml), TorchScript or torch.export file, by its path or URL;
            or a built-in network (osnet_x1_0, bnneck, torchvision:NAME, ...) with --checkpoint.
        checkpoint: File of weights for a built-in network, by its path or URL.
        version: Version of the gallery (default: the latest).
    """
    from pipeline.errors import InputError
    from pipeline.gallery.files.places import root_of
    from pipeline.gallery.opening import check_writable
    from pipeline.gallery.outputs import listed_in_galleries
    from pipeline.gallery.table import Gallery
    from pipeline.model.kinds import check_network_file

    old = Gallery.open(gallery, version)
    if root_of(out).resolve() == root_of(gallery).resolve():
        raise InputError(
            f"--out {out} is the gallery itself, and features of two recipes are never mixed: give"
            " another folder"
        )
    check_network_file(model)
    check_writable(out)
    with progress_lines() as progress:
        progress("loading the network", None)
        from pipeline.model.fetched_networks import network_file
        from pipeline.runs.extraction import UpdatePlan, update_gallery
        from pipeline.runs.target import gallery_spec

        network, layout = network_file(model, checkpoint), old.properties["layout"]
        spec = gallery_spec(out, network, recipe, layout, on.precision, work.storage)
        plan = UpdatePlan(_listing_of(old), spec, work=work, actors=on)
        with listed_in_galleries("re-extracted gallery", out, [old]):
            return update_gallery(plan, progress)


def _listing_of(gallery: "Gallery") -> "Listing":
    """A gallery's images as a listing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from pipeline.archive.listing.source import Listing
    from pipeline.archive.manifest import MANIFEST_SCHEMA
    from pipeline.archive.video.listing import relisted
    from pipeline.archive.video.names import box_of_name

    names = [name for name in MANIFEST_SCHEMA.names if name != "offset"]
    rows = gallery.rows(names).sort_by("path").replace_schema_metadata(None)
    # Members of tars are found by name: the source is not listed, so their offsets are unknown.
    place = MANIFEST_SCHEMA.get_field_index("offset")
    rows = rows.add_column(place, "offset", pa.nulls(len(rows), pa.int64()))
    rejects = gallery.rejects()
    images = rows.cast(MANIFEST_SCHEMA)
    if (
        len(images) and box_of_name(images["path"][0].as_py()) is not None
    ):  # then all rows are boxes
        images, gone = relisted(gallery.properties["source"], images)
        rejects = pa.concat_tables([rejects, gone]).sort_by("path")
    old_network = pc.is_in(rejects["reason"], value_set=pa.array(OF_THE_NETWORK))
    return Listing(
        root=gallery.properties["source"],
        images=images,
        rejects=rejects.filter(pc.invert(old_network)),
        skipped={},
    )


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["re-extract", *sys.argv[1:]]))
