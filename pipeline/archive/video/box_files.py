"""Find the file of boxes that belongs to a video, and read it by its content."""

import posixpath

from fsspec import AbstractFileSystem

from pipeline.archive.video import box_tables
from pipeline.archive.video.boxes import Boxes
from pipeline.archive.video.coco import read_coco
from pipeline.archive.video.cvat import read_cvat
from pipeline.archive.video.text_boxes import read_mot, read_yolo
from pipeline.errors import InputError
from pipeline.input_files import why

ENDINGS = (
    *(f".boxes{suffix}" for suffix in (".csv", ".parquet", ".json", ".xml", ".txt")),
    *(".csv", ".parquet", ".mot.txt", ".txt", ".json", ".xml"),
)
"""Endings that replace a video's suffix in the name of the box file beside it, in order of
preference.
"""
FOLDERS = (".labels", "")
"""The same for a folder of YOLO files, one per frame."""
SUFFIXES = (*box_tables.SUFFIXES, ".json", ".xml", ".txt")
"""The suffixes of box files."""


def beside(video: str, names: set[str]) -> str | None:
    """The box file or folder among the `names` of a folder that belongs to a video in it.

    >>> beside("a.mp4", {"a.mp4", "a.json", "a.mot.txt"}), beside("b.mp4", {"a.json"})
    ('a.mot.txt', None)
    """
    stem = video.rpartition(".")[0]
    candidates = [stem + ending for ending in (*ENDINGS, *FOLDERS)]
    return next((name for name in candidates if name in names), None)


def read_boxes(filesystem: AbstractFileSystem, path: str, *, beside_video: bool = True) -> Boxes:
    """Read the boxes in a file or a folder of YOLO files; they belong to the video beside it, or to
    pictures.

    The formats are MOTChallenge (.txt), COCO (.json), CVAT (.xml), or a table in our own columns
    (.csv, .parquet). Raise InputError if it cannot be read, or has another form.
    """
    suffix = posixpath.splitext(path)[1].lower()
    try:
        if filesystem.isdir(path):
            names = sorted(each for each in filesystem.ls(path, False) if each.endswith(".txt"))
            if not names:
                raise InputError(f"{path} has no .txt file of YOLO, one a frame")
            return read_yolo((name, _text(filesystem, name)) for name in names)
        if suffix in box_tables.SUFFIXES:
            return box_tables.as_boxes(box_tables.read_table(filesystem, path), path)
        if suffix == ".txt":
            return read_mot(_text(filesystem, path), path)
        if suffix in (".json", ".xml"):
            read = read_coco if suffix == ".json" else read_cvat
            return read(filesystem.cat_file(path), path, beside_video=beside_video)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {why(error)}") from error
    raise InputError(f"{path} is not a box file: {', '.join(SUFFIXES)} are read, and YOLO folders")


def _text(filesystem: AbstractFileSystem, path: str) -> str:
    try:
        return str(filesystem.cat_file(path).decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8 ({error})") from error
