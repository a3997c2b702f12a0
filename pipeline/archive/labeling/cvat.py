"""Write labels as CVAT XML 1.1: tracks of a video, and boxes on images."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO
from xml.sax.saxutils import escape, quoteattr

from pipeline.archive.labeling.labels import CLASS, Label, LabeledFile
from pipeline.errors import InputError

IMAGES_FILE = "annotations.xml"
_ATTRIBUTES = ("identity", "candidate", "score", "camera", "track", "row_id")


def write_cvat(files: Iterable[LabeledFile], folder: Path) -> int:
    """Write the labels to a new folder; return their number.

    Each video gets a file of its name with the ending .xml ("CVAT for video"), for the task of that
    video. All pictures together get `annotations.xml` ("CVAT for images"). If a box of a track does
    not continue in the next frame, the track is outside there, so that CVAT does not interpolate.
    Labels have the class person and the attributes identity, candidate, score, camera, track and
    row_id; unknown ones are empty.
    """
    folder.mkdir()
    count = pictures = 0
    images: IO[str] | None = None
    try:
        for file in files:
            count += len(file.labels)
            if file.is_video:
                path = _path(folder, file.file)
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.exists():
                    raise InputError(
                        f"two videos would share the labels {path.name}: {file.file} and another"
                        " with the same name and another ending; rename one, or choose the format"
                        " coco"
                    )
                with path.open("w", encoding="utf-8") as out:
                    out.writelines(_of_video(file))
                continue
            if images is None:
                images = (folder / IMAGES_FILE).open("w", encoding="utf-8")
                images.writelines(_head("annotation", None))
            images.writelines(_of_image(pictures, file))
            pictures += 1
        if images is not None:
            images.write("</annotations>\n")
    finally:
        if images is not None:
            images.close()
    return count


def _path(folder: Path, file: str) -> Path:
    """The file for the labels of a video: its path below the folder, whatever that path is."""
    parts = [part for part in file.partition("://")[-1 if "://" in file else 0].split("/")
             if part not in ("", ".", "..")]  # fmt: skip
    return folder.joinpath(*parts).with_suffix(".xml")


def _head(mode: str, file: LabeledFile | None) -> Iterator[str]:
    attribute = (
        "<attribute><name>{}</name><mutable>True</mutable><input_type>text</input_type>"
        "<default_value></default_value><values></values></attribute>"
    )
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
    yield "<meta><task>"
    if file is not None:
        size = file.size
        yield f"<name>{escape(file.file)}</name><size>{_length(file)}</size>"
        yield (
            f"<original_size><width>{size.width}</width><height>{size.height}</height>"
            "</original_size>"
        )
    yield f"<mode>{mode}</mode><labels><label><name>{CLASS}</name><attributes>"
    yield from (attribute.format(name) for name in _ATTRIBUTES)
    yield "</attributes></label></labels></task></meta>\n"


def _length(file: LabeledFile) -> int:
    return max(file.size.frames, (file.labels[-1].frame or 0) + 1)


def _of_video(file: LabeledFile) -> Iterator[str]:
    yield from _head("interpolation", file)
    tracks: dict[object, list[Label]] = {}
    for label in file.labels:
        key = ("box", label.row_id) if label.track is None else (label.camera, label.track)
        tracks.setdefault(key, []).append(label)
    last = _length(file) - 1
    for number, labels in enumerate(tracks.values()):
        yield f'<track id="{number}" label="{CLASS}" source="regallery">\n'
        for label, after in zip(labels, [*labels[1:], None], strict=True):
            frame = label.frame or 0
            yield from _box(label, f'frame="{frame}" keyframe="1" outside="0" occluded="0"')
            if frame < last and (after is None or (after.frame or 0) > frame + 1):
                yield from _box(label, f'frame="{frame + 1}" keyframe="1" outside="1" occluded="0"')
        yield "</track>\n"
    yield "</annotations>\n"


def _of_image(number: int, file: LabeledFile) -> Iterator[str]:
    size = f'width="{file.size.width}" height="{file.size.height}"'
    yield f'<image id="{number}" name={quoteattr(file.file)} {size}>\n'
    for label in file.labels:
        yield from _box(label, f'label="{CLASS}" source="regallery" occluded="0"')
    yield "</image>\n"


def _box(label: Label, about: str) -> Iterator[str]:
    x, y, width, height = label.box
    corners = {"xtl": x, "ytl": y, "xbr": x + width, "ybr": y + height}
    told = " ".join(f'{name}="{value:.2f}"' for name, value in corners.items())
    yield f'  <box {about} {told} z_order="0">'
    known = label.attributes
    for name in _ATTRIBUTES:
        value = escape(str(known.get(name, "")))
        yield f'<attribute name="{name}">{value}</attribute>'
    yield "</box>\n"
