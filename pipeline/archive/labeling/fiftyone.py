"""Write labels as a FiftyOne dataset on disk (`FiftyOneDataset`)."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.archive.labeling.labels import CLASS, Label, LabeledFile
from pipeline.errors import InputError

SAMPLE_FIELD = "people"
"""The field of frames (or images) that holds the labels."""


def write_fiftyone(files: Iterable[LabeledFile], folder: Path, info: dict[str, Any]) -> int:
    """Write the labels to a new folder that FiftyOne opens as a `FiftyOneDataset`; return their
    number.

    A video or picture is a sample with the absolute path of its file; nothing is copied. A box is a
    detection in the field `people` of its frame (from 1), with its tracklet as the index, and
    attributes. The form has no version, so all releases of FiftyOne can read it. Raise InputError
    if the source has both videos and pictures, because a dataset cannot have both.
    """
    folder.mkdir()
    (folder / "frames").mkdir()
    count = samples = 0
    kinds = set[bool]()
    with (folder / "samples.json").open("w") as out:
        out.write('{"samples": [')
        for file in files:
            kinds.add(file.is_video)
            if len(kinds) > 1:
                raise InputError(
                    "a dataset of FiftyOne holds videos or pictures, and this gallery has both:"
                    " extract them into two galleries, or choose the format coco"
                )
            sample: dict[str, Any] = {"filepath": file.location, "tags": []}
            if file.is_video:
                sample["frames"] = f"frames/{samples:06d}.json"
                frames = {
                    str(frame + 1): {
                        "frame_number": frame + 1,
                        SAMPLE_FIELD: _detections(file, labels),
                    }
                    for frame, labels in file.by_frame()
                }
                (folder / sample["frames"]).write_text(json.dumps({"frames": frames}))
            else:
                sample[SAMPLE_FIELD] = _detections(file, list(file.labels))
            out.write((",\n" if samples else "\n") + json.dumps(sample))
            samples += 1
            count += len(file.labels)
        out.write("\n]}\n")
    media = "video" if kinds == {True} else "image"
    about = {"media_type": media, "info": info}
    (folder / "metadata.json").write_text(json.dumps(about, indent=1) + "\n")
    return count


def _detections(file: LabeledFile, labels: list[Label]) -> dict[str, Any]:
    return {"_cls": "Detections", "detections": [_detection(file, label) for label in labels]}


def _detection(file: LabeledFile, label: Label) -> dict[str, Any]:
    x, y, width, height = label.box
    left, top = max(0.0, x), max(0.0, y)
    right, bottom = min(file.size.width, x + width), min(file.size.height, y + height)
    place = [left / file.size.width, top / file.size.height,
             (right - left) / file.size.width, (bottom - top) / file.size.height]  # fmt: skip
    index = {} if label.track_id is None else {"index": label.track_id}
    return {
        "_cls": "Detection",
        "label": CLASS,
        "bounding_box": [round(value, 6) for value in place],
        "tags": [],
        **index,
        **label.attributes,
    }
