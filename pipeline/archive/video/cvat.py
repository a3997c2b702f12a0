"""Read boxes from CVAT XML: for video (tracks) and for images."""

from typing import Any
from xml.etree import ElementTree

from pipeline.archive.video.boxes import Boxes, box_table
from pipeline.errors import InputError

_NAMES = ("file", "frame", "x", "y", "width", "height", "track", "class", "identity", "camera")


def read_cvat(data: bytes, name: str, *, beside_video: bool) -> Boxes:
    """Read the boxes of a CVAT file: of a track, those that are not outside; of an image, all of
    them.

    Beside a video, an image's `id` is its frame, from 0; elsewhere its `name` is its file. The
    attributes identity, camera and track (which takes precedence over a track's id) are read. Raise
    InputError for another form.
    """
    try:
        tree = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise InputError(f"{name} cannot be read as XML: {error}") from error
    if tree.tag != "annotations":
        raise InputError(f"{name} is not of CVAT's form: its root is {tree.tag}, not annotations")
    rows: list[tuple[Any, ...]] = []
    try:
        for track in tree.iter("track"):
            if not beside_video:
                raise InputError(f"{name}: tracks do not name their video: put it beside its video")
            labels = {each.get("name"): each.text for each in track.findall("attribute")}
            rows += [
                (None, int(box.attrib["frame"]), *_row(box, track.attrib, labels))
                for box in track.findall("box")
                if box.get("outside") != "1"
            ]
        for image in tree.iter("image"):
            file = None if beside_video else image.attrib["name"]
            frame = int(image.attrib["id"]) if beside_video else None
            rows += [(file, frame, *_row(box, box.attrib, {})) for box in image.findall("box")]
    except (KeyError, ValueError) as error:
        raise InputError(f"{name} is not of CVAT's form: {type(error).__name__} {error}") from error
    columns = dict(zip(_NAMES, zip(*rows, strict=True), strict=True)) if rows else {}
    return Boxes(box_table(columns, len(rows)))


def _row(box: Any, owner: Any, labels: dict[Any, Any]) -> tuple[Any, ...]:
    left, top, right, bottom = (float(box.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
    told = labels | {each.get("name"): each.text for each in box.findall("attribute")}
    identity = told.get("identity")
    track = told.get("track_id") if owner is box.attrib else owner.get("id")
    if "track" in told:  # a name, or empty for a box without a track, which CVAT writes as a track
        track = told["track"] or None
    return (
        *(left, top, right - left, bottom - top, track, owner["label"]),
        int(identity) if identity else None,
        told.get("camera"),
    )
