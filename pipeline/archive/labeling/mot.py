"""Write labels as MOTChallenge: a folder for each sequence, with gt/gt.txt and seqinfo.ini."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.archive.labeling.labels import Label, LabeledFile
from pipeline.archive.video.sizes import FrameSize
from pipeline.errors import InputError

BoxNumber = Literal["tracklet", "identity", "candidate"]
"""The meaning of the second number in a line."""

VIDEOS_FILE, TRACKS_FILE = "videos.csv", "tracks.csv"
_LAST_NUMBER = re.compile(r"(\d+)\D*$")
_COUNTED = re.compile(r"0|[1-9]\d*")


class _Sequence(NamedTuple):
    """Boxes of one camera in a video, or in the pictures of a folder; frames count from 1."""

    source: str
    camera: str | None
    size: FrameSize
    length: int
    boxes: list[tuple[int, Label]]
    is_video: bool


def write_mot(files: Iterable[LabeledFile], folder: Path, number: BoxNumber = "tracklet") -> int:
    """Write the labels to a new folder; return the number of boxes without a number (they get -1).

    Each video is a sequence; if it has several cameras, each camera in it is one. The pictures of a
    folder are one sequence, whose frames are the numbers at the end of their names. `videos.csv`
    lists the videos as a table that `extract` can read. If tracks are not whole numbers, they are
    counted from 1, and `tracks.csv` maps the numbers to the tracks. Raise InputError for whole
    crops, which have no frames, and for pictures whose names do not number them.
    """
    folder.mkdir()
    unnumbered, taken = 0, set[str]()
    with (
        (folder / VIDEOS_FILE).open("w", newline="") as videos,
        (folder / TRACKS_FILE).open("w", newline="") as tracks,
    ):
        listed, named = csv.writer(videos), csv.writer(tracks)
        listed.writerow(["video", "camera", "boxes"])
        named.writerow(["sequence", "id", "track"])
        for each in _sequences(files):
            name = _free_name(each, taken)
            place = folder / name / "gt" / "gt.txt"
            place.parent.mkdir(parents=True)
            numbers = _numbers(each, number)
            lines = [_line(frame, label, numbers(label)) for frame, label in each.boxes]
            place.write_text("".join(lines))
            (folder / name / "seqinfo.ini").write_text(_about(name, each))
            unnumbered += sum(numbers(label) == -1 for _, label in each.boxes)
            if each.is_video:
                listed.writerow([each.source, each.camera or "", place.absolute()])
            if number == "tracklet":
                told = {label.track: numbers(label) for _, label in each.boxes if label.track}
                named.writerows([name, told[track], track] for track in sorted(told))
    return unnumbered


def _sequences(files: Iterable[LabeledFile]) -> Iterator[_Sequence]:
    folders: dict[str, list[LabeledFile]] = {}
    for file in files:
        if file.is_crop:
            raise InputError(
                f"{file.location} is a crop, and MOTChallenge has boxes on frames only:"
                " choose the format coco, cvat or fiftyone, where the box is the whole image"
            )
        if not file.is_video:
            folders.setdefault(file.file.rpartition("/")[0], []).append(file)
            continue
        boxes = [((label.frame or 0) + 1, label) for label in file.labels]
        length = max(file.size.frames, boxes[-1][0])
        yield from _by_camera(file.file, file.size, length, boxes, is_video=True)
    for name, pictures in folders.items():
        frames = [_frame_of(picture) for picture in pictures]
        if len(set(frames)) < len(frames):
            raise InputError(
                f"{pictures[0].location}: two pictures beside it have the same number at the end of"
                " their names, and MOTChallenge knows frames by it: choose the format coco"
            )
        shift = int(min(frames) == 0)
        boxes = [
            (frame + shift, label)
            for frame, picture in sorted(zip(frames, pictures, strict=True), key=lambda one: one[0])
            for label in picture.labels
        ]
        size = pictures[0].size
        yield from _by_camera(name or "frames", size, boxes[-1][0], boxes, is_video=False)


def _frame_of(picture: LabeledFile) -> int:
    stem = picture.file.rpartition("/")[2].rpartition(".")[0]
    found = _LAST_NUMBER.search(stem)
    if found is None:
        raise InputError(
            f"{picture.location}: MOTChallenge knows frames by their numbers, and this"
            " name has none: choose the format coco"
        )
    return int(found[1])


def _by_camera(
    source: str, size: FrameSize, length: int, boxes: list[tuple[int, Label]], *, is_video: bool
) -> Iterator[_Sequence]:
    for camera in sorted({label.camera for _, label in boxes}, key=lambda name: name or ""):
        own = [(frame, label) for frame, label in boxes if label.camera == camera]
        yield _Sequence(source, camera, size, length, own, is_video)


def _free_name(each: _Sequence, taken: set[str]) -> str:
    """A folder name for the sequence: its path with its camera, plus a number if that name is
    taken.
    """
    stem = each.source.rpartition(".")[0] if each.is_video else each.source
    told = stem if each.camera is None else f"{stem}-{each.camera}"
    name = re.sub(r"[^\w.-]+", "-", told).strip("-.") or "sequence"
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}-{count}"
    taken.add(free)
    return free


def _numbers(each: _Sequence, number: BoxNumber) -> Callable[[Label], int]:
    """The function that numbers each box: by its track, identity or candidate; -1 without one."""
    if number == "identity":
        return lambda label: -1 if label.identity is None else label.identity
    if number == "candidate":
        return lambda label: -1 if label.candidate is None else label.candidate
    names = sorted({label.track for _, label in each.boxes if label.track is not None})
    if all(_COUNTED.fullmatch(name) for name in names):
        known = {name: int(name) for name in names}
    else:
        known = {name: count for count, name in enumerate(names, start=1)}
    return lambda label: -1 if label.track is None else known[label.track]


def _line(frame: int, label: Label, number: int) -> str:
    x, y, width, height = label.box
    place = ",".join(
        f"{value:.2f}".rstrip("0").rstrip(".") for value in (x + 1, y + 1, width, height)
    )
    return f"{frame},{number},{place},1,1,1\n"


def _about(name: str, each: _Sequence) -> str:
    size = each.size
    rate = f"frameRate={size.rate:g}\n" if each.is_video else ""
    return (
        f"[Sequence]\nname={name}\nimDir=img1\n{rate}seqLength={each.length}\n"
        f"imWidth={size.width}\nimHeight={size.height}\nimExt=.jpg\n"
    )
