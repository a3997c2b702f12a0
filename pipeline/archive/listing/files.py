"""The files found in a source: those to list, those with a fault, and those skipped."""

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
"""A file with one of these suffixes, in either case, counts as an image unless its bytes
disagree.
"""

NOT_READ_SUFFIXES = frozenset(
    f".{name}"
    for names in ("tga psd exr", "dng cr2 cr3 nef arw raf rw2 orf pef srw")
    for name in names.split()
)
"""Formats of images that cannot be read and not recognized by their first bytes: each is a
reject.
"""

OTHER_SUFFIXES = frozenset(
    f".{name}"
    for names in (
        "txt csv tsv json jsonl xml yaml yml toml ini cfg md rst html htm log lst list",
        "py ipynb sh m lock db sqlite npy npz mat pkl pickle h5 hdf5 parquet arrow feather",
        "pt pth onnx bin safetensors mp4 avi mkv mov webm mp3 wav zip gz 7z rar pdf svg bak tmp",
    )
    for name in names.split()
)
"""Files that are not opened to check whether they are images."""

HIDDEN, NO_SUFFIX, LINK_LOOP, SPECIAL = "(hidden)", "(no suffix)", "(link loop)", "(special)"
OUTDATED = "(outdated)"

MISSING = "missing"
"""The reason of a file that does not exist; its bytes may be unchanged."""
UNSEEN = ("unreadable-folder", "unreadable-tar", "damaged-tar", "unreadable-video")
"""Reasons of faults of a whole folder or tar, some of whose images are unknown."""
PLACES = (*UNSEEN, "compressed-tar", "missing-video", "no-boxes")
"""Reasons of faults of a whole folder or tar, not of an image."""


class File(NamedTuple):
    """One image's file: its bytes, and its time in microseconds since 1970; None if unknown.

    `offset` is the position of a tar member's bytes in the tar; None for a separate file.
    """

    path: str
    size: int | None
    mtime: int | None
    offset: int | None = None


class Fault(NamedTuple):
    """A file that the file system does not return, with the reason."""

    file: File
    reason: str
    detail: str


class Place(NamedTuple):
    """A folder or tar to read: its path below the root; that of a folder ends with a slash.

    `inside` has the (device, inode) of the parent folders of a local folder.
    """

    path: str
    inside: tuple[tuple[int, int], ...] = ()


@dataclass
class Folder:
    """The contents of one folder or tar, without those of the folders and tars in it."""

    files: list[File] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    places: list[Place] = field(default_factory=list)


def readable(path: str) -> str:
    r"""Convert the path to text that can be stored: bytes that are not UTF-8 are written as \xff.

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
    """The reason under which a base name that is not an image is counted; None for an image's name.

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
    """Add an image's file to the folder; a file whose path cannot be stored becomes a fault."""
    suffix = file.path[file.path.rfind(".") :].lower()
    if is_text(file.path) and suffix in NOT_READ_SUFFIXES:
        detail = f"{suffix} files are not read: convert it to JPEG or PNG"
        folder.faults.append(Fault(file, "unsupported", detail))
    elif is_text(file.path):
        folder.files.append(file)
    else:
        told = file._replace(path=readable(file.path))
        folder.faults.append(Fault(told, "bad-name", "the path is not UTF-8: rename it"))
