"""Write labels as COCO JSON, with the videos and tracks of TAO and COCO-VID."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from pipeline.archive.labeling.labels import CLASS, Label, LabeledFile


def write_coco(files: Iterable[LabeledFile], path: Path, info: dict[str, Any]) -> int:
    """Write the labels of all `files` to one COCO file at `path`; return their number.

    An image of COCO is a frame (`video_id`, `frame_id` from 0; `file_name` is CVAT's name of the
    frame) or a picture at `file_name`, relative to the source. An annotation has its `track_id`,
    and other known values in `attributes`, as CVAT writes them. `info` goes into the file. Memory
    holds the labels of one video.
    """
    count, rest = 0, path.with_name(f"{path.name}.rest")
    try:
        with path.open("w") as out, rest.open("w") as annotations:
            head = {"info": info, "licenses": []}
            out.write(json.dumps(head, indent=1).rstrip("\n}") + ',\n "images": [')
            videos: list[dict[str, Any]] = []
            images = 0
            for file in files:
                if file.is_video:
                    videos.append(_video(len(videos) + 1, file))
                for frame, labels in file.by_frame():
                    images += 1
                    _add(out, _image(images, len(videos), file, frame, labels), images)
                    for label in labels:
                        count += 1
                        _add(annotations, _annotation(count, images, label), count)
            out.write('\n ],\n "annotations": [')
        with path.open("a") as out, rest.open() as annotations:
            out.writelines(annotations)
            category = {"id": 1, "name": CLASS, "supercategory": CLASS}
            tail = {"videos": videos, "categories": [category]}
            out.write("\n ],\n" + json.dumps(tail, indent=1).lstrip("{\n") + "\n")
    finally:
        rest.unlink(missing_ok=True)
    return count


def _add(out: IO[str], about: dict[str, Any], number: int) -> None:
    out.write(("\n  " if number == 1 else ",\n  ") + json.dumps(about))


def _video(number: int, file: LabeledFile) -> dict[str, Any]:
    size = file.size
    return {
        "id": number,
        "name": file.file,
        "file_name": file.file,
        "width": size.width,
        "height": size.height,
        "fps": size.rate,
    }


def _image(
    number: int, video: int, file: LabeledFile, frame: int, labels: list[Label]
) -> dict[str, Any]:
    about: dict[str, Any] = {"id": number, "width": file.size.width, "height": file.size.height}
    if file.is_video:
        stem = file.file.rpartition(".")[0]
        about |= {"file_name": f"{stem}/frame_{frame:06d}.png", "video_id": video,
                  "frame_id": frame}  # fmt: skip
    else:
        about |= {"file_name": file.file}
    if labels[0].captured_at is not None:
        about["date_captured"] = labels[0].captured_at.isoformat()
    return about


def _annotation(number: int, image: int, label: Label) -> dict[str, Any]:
    box = [_plain(value) for value in label.box]
    track = {} if label.track_id is None else {"track_id": label.track_id}
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": box,
        "area": _plain(label.box.width * label.box.height),
        "iscrowd": 0,
        **track,
        "attributes": label.attributes,
    }


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else round(value, 4)
