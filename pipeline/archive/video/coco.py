"""Read boxes from COCO JSON: of frames in separate pictures, or of videos."""

from typing import Any

from pipeline.archive.video.boxes import Boxes, box_table
from pipeline.errors import InputError
from pipeline.input_files import parse_json

_FRAME_KEYS = ("frame_id", "frame_index", "frame")
_TRACK_KEYS = ("track", "track_id", "instance_id", "tracklet")


def read_coco(data: bytes, name: str, *, beside_video: bool) -> Boxes:
    """Read the boxes of a COCO file: an object with images and annotations, or a list of
    detections.

    An image with a frame number (`frame_id`, from 0) is a frame of its video (`video_id`, one of
    `videos`; without it, the video beside the file). Any other image is a picture at `file_name`.
    In a list, which is only valid beside a video, `image_id` is the frame, from 0. In addition to
    the bbox, an annotation may have `score`, `category_id`, `track` (otherwise `track_id`),
    `identity` and `camera`, also in its `attributes`; its image may have the last two. Raise
    InputError for another form.
    """
    try:
        about = parse_json(data)
    except ValueError as error:
        raise InputError(f"{name} cannot be read as JSON: {error}") from error
    try:
        return _read(about, name, beside_video)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"{name} is not of COCO's form: {type(error).__name__} {error} (an object with images"
            " and annotations, each with image_id and bbox, or a list of detections)"
        ) from error


def _read(about: Any, name: str, beside_video: bool) -> Boxes:
    if isinstance(about, list):
        if not beside_video:
            raise InputError(f"{name}: a list of detections does not say what they are of: put it"
                             " beside its video, or give the object with its images")  # fmt: skip
        found, images = about, None
        classes: dict[Any, str] = {}
    else:
        found = about["annotations"]
        images = {image["id"]: image for image in about["images"]}
        classes = {each["id"]: str(each["name"]) for each in about.get("categories", [])}
    videos = {} if images is None else {
        video["id"]: str(video.get("file_name") or video["name"])
        for video in about.get("videos", [])
    }  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    for each in found:
        image = {"frame_id": each["image_id"]} if images is None else images[each["image_id"]]
        frame = _first(image, _FRAME_KEYS)
        file = videos.get(image.get("video_id")) if frame is not None else str(image["file_name"])
        if beside_video and frame is None:
            raise InputError(
                f"{name}: image {each['image_id']} has no frame_id, the frame of the video from 0"
            )
        if frame is not None and file is None and not beside_video:
            raise InputError(
                f"{name}: image {each['image_id']} is a frame of no video in videos: put the file"
                " beside its video, or give video_id"
            )
        x, y, width, height = map(float, each["bbox"])
        track, category = _first(each, _TRACK_KEYS), each.get("category_id")
        identity = _first(each, ("identity",), image.get("identity"))
        camera = _first(each, ("camera",), image.get("camera"))
        rows.append(
            (
                file,
                None if frame is None else int(frame),
                *(x, y, width, height),
                None if track is None else str(track),
                None if identity is None else int(identity),
                None if camera is None else str(camera),
                each.get("score"),
                None if category is None else classes.get(category, str(category)),
            )
        )
    names = ("file", "frame", "x", "y", "width", "height", "track", "identity", "camera")
    columns = dict(zip((*names, "confidence", "class"), zip(*rows, strict=True), strict=True))
    return Boxes(box_table(columns if rows else {}, len(rows)))


def _first(about: dict[str, Any], keys: tuple[str, ...], otherwise: Any = None) -> Any:
    """The first of some values that exists, also among CVAT's `attributes`."""
    attributes = about.get("attributes") or {}
    for key in keys:
        if about.get(key, attributes.get(key)) is not None:
            return about.get(key, attributes.get(key))
    return otherwise
