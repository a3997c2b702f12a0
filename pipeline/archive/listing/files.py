"""The files that a source is found to hold: those to list, those with a fault, those skipped."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for names in (
        *("jpg jpeg jpe jfif mpo", "png", "bmp", "gif", "webp", "tif tiff", "ppm pgm pbm pnm"),
        *("jp2 j2k j2c jpc jpx jpf", "avif avifs", "heic heif hif", "jxl"),
    )
    for name in names.split()
)
"""A file with one of these suffixes, in either case, is an image until its bytes say no."""

NOT_READ_SUFFIXES = frozenset(
    f".{name}"
    for names in ("tga psd exr", "dng cr2 cr3 nef arw raf rw2 orf pef srw")
    for name in names.split()
)
"""Images that are not read and whose first bytes do not say so: each is a reject."""

OTHER_SUFFIXES = frozenset(
    f".{name}"
    for names in (
        "txt csv tsv json jsonl xml yaml yml toml ini cfg md rst html htm log lst list",
        "py ipynb sh m lock db sqlite npy npz mat pkl pickle h5 hdf5 parquet arrow feather",
        "pt pth onnx bin safetensors mp4 avi mkv mov webm mp3 wav zip gz 7z rar pdf svg bak tmp",
    )
    for name in names.split()
)
"""Files that are not even opened to see whether they are images."""

HIDDEN, NO_SUFFIX, LINK_LOOP, SPECIAL = "(hidden)", "(no suffix)", "(link loop)", "(special)"
OUTDATED = "(outdated)"

MISSING = "missing"
"""Reason of a file that does not exist, which says nothing about its bytes."""
UNSEEN = ("unreadable-folder", "unreadable-tar", "damaged-tar", "unreadable-video")
"""Reasons of faults of a whole folder or tar of which not every image is known."""
PLACES = (*UNSEEN, "compressed-tar", "missing-video", "no-boxes")
"""Reasons of faults that are no image's but a whole folder's or tar's."""


class File(NamedTuple):
    """One image's file: bytes, and microseconds since 1970; None where nobody says.

    `offset` is where the bytes of a tar's member begin in the tar; None for a file of its own.
    """

    path: str
    size: int | None
    mtime: int | None
    offset: int | None = None


class Fault(NamedTuple):
    """A file that the file system does not give, and why."""

    file: File
    reason: str
    detail: str


class Place(NamedTuple):
    """A folder or tar to look into: its path below the root, a folder's with a slash at its end.

    `inside` holds the (device, inode) of the folders that a local folder stands in.
    """

    path: str
    inside: tuple[tuple[int, int], ...] = ()


@dataclass
class Folder:
    """What stands in one folder or tar; the folders and tars in it are not entered."""

    files: list[File] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    places: list[Place] = field(default_factory=list)


def readable(path: str) -> str:
    r"""The path as text that can be stored: bytes that are no UTF-8 are written as \xff.

    >>> readable("caf\udce9.jpg")
    'caf\\xe9.jpg'
    """
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_text(path: str) -> bool:
    """Whether a path is UTF-8."""
    if path.isascii():
        return True
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def skip_reason(name: str) -> str | None:
    """What a base name that is not an image is counted as; None for an image's name.

    >>> skip_reason("a.JPG"), skip_reason("a.txt"), skip_reason(".a.jpg"), skip_reason("README")
    (None, '.txt', '(hidden)', '(no suffix)')
    """
    if name.startswith("."):
        return HIDDEN
    dot = name.rfind(".")
    suffix = name[dot:].lower() if dot > 0 else NO_SUFFIX
    return None if suffix in IMAGE_SUFFIXES or suffix in NOT_READ_SUFFIXES else readable(suffix)


def is_worth_a_look(skipped: str) -> bool:
    """Whether a file that is skipped for that reason may be an image by its first bytes.

    >>> is_worth_a_look(".0001"), is_worth_a_look("(no suffix)"), is_worth_a_look(".txt")
    (True, True, False)
    """
    return skipped == NO_SUFFIX or (skipped.startswith(".") and skipped not in OTHER_SUFFIXES)


def sort_file(folder: Folder, file: File) -> None:
    """Put an image's file where it belongs: one whose path cannot be stored is a fault."""
    suffix = file.path[file.path.rfind(".") :].lower()
    if is_text(file.path) and suffix in NOT_READ_SUFFIXES:
        detail = f"{suffix} files are not read: convert it to JPEG or PNG"
        folder.faults.append(Fault(file, "unsupported", detail))
    elif is_text(file.path):
        folder.files.append(file)
    else:
        told = file._replace(path=readable(file.path))
        folder.faults.append(Fault(told, "bad-name", "the path is not UTF-8: rename it"))
