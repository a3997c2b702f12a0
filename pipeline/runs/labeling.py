"""Write a gallery's identities and links as labels on its frames, for other tools."""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive.labeling.coco import write_coco
from pipeline.archive.labeling.cvat import write_cvat
from pipeline.archive.labeling.fiftyone import write_fiftyone
from pipeline.archive.labeling.labels import LABEL_COLUMNS, labeled_files
from pipeline.archive.labeling.mot import BoxNumber, write_mot
from pipeline.errors import InputError
from pipeline.gallery.derived import derivation
from pipeline.gallery.formats.export import LABEL_PLACES, ExportedFeatures, export_labels
from pipeline.gallery.sidecars.candidates import read_candidates
from pipeline.gallery.table import Gallery

_log = logging.getLogger(__name__)


def label_frames(
    gallery: Gallery,
    out: str,
    format: str = "coco",  # noqa: A002 (the flag's name)
    *,
    links: Path | None = None,
    number: BoxNumber = "tracklet",
) -> ExportedFeatures:
    """Write the boxes of a version to the folder `out`, with identity, camera, tracklet and row id.

    The `format` is coco (a JSON file), cvat (XML), fiftyone (a dataset on disk) or mot (folders of
    MOTChallenge). Boxes are on the frames and pictures that they were cut from; a crop in a
    separate file gets a box of its full size. `links` is a table of identity candidates of the same
    gallery, or of its tracklets, which are added. `number` selects the number of a box in mot.
    Raise InputError for a gallery of tracklets, for `links` of other rows, if a video or picture is
    gone, and if the format cannot represent the boxes.
    """
    if format not in LABEL_PLACES:
        raise InputError(
            f"`format` {format!r} has no labels: choose one of {', '.join(LABEL_PLACES)}"
        )
    if number != "tracklet" and format != "mot":
        raise InputError("`number` goes with `format` mot alone: the others hold all labels")
    if number == "candidate" and links is None:
        raise InputError("`number` candidate needs `links`, the table of candidates")
    if (held := derivation(gallery)) is not None and held.of_tracklets:
        raise InputError(
            f"{gallery.location} is {held}: give the gallery of the boxes; candidates of tracklets"
            " become labels of their boxes by `links`"
        )
    rows = gallery.rows(LABEL_COLUMNS)
    if links is not None:
        rows = _with_candidates(rows, links, gallery.location)
    root = gallery.properties["source"]
    files = labeled_files(root, rows)
    info = {
        "description": f"version {gallery.version} of the gallery {gallery.location}",
        "source": root,
    }
    unnumbered = 0

    def write(path: Path) -> None:
        nonlocal unnumbered
        match format:
            case "coco":
                write_coco(files, path, info)
            case "cvat":
                write_cvat(files, path)
            case "fiftyone":
                write_fiftyone(files, path, info)
            case "mot":
                unnumbered = write_mot(files, path, number)

    made = export_labels(gallery, out, format, write)
    if unnumbered:
        _log.warning("%d boxes have no %s: their number is -1", unnumbered, number)
    return ExportedFeatures(made, gallery.count, gallery.dimension, gallery.version)


def _with_candidates(rows: pa.Table, links: Path, location: str) -> pa.Table:
    """The rows with the columns candidate and score of a table of their paths or tracklets."""
    found = read_candidates(links)
    of_path = pc.index_in(rows["path"], found["path"])
    place = pc.coalesce(of_path, pc.index_in(rows["tracklet"], found["path"], skip_nulls=True))
    if len(rows) and place.null_count == len(rows):
        raise InputError(
            f"{links} has candidates of other rows: none of its paths is a row or a tracklet of"
            f" {location}"
        )
    for name in ("candidate", "score"):
        rows = rows.append_column(name, found[name].combine_chunks().take(place))
    return rows
