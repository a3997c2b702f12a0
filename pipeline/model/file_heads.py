"""Read the first bytes of a file, and recognize its kind."""

import zipfile
from pathlib import Path
from typing import Literal

from pipeline import input_files
from pipeline.errors import InputError

Kind = Literal["onnx", "openvino", "torchscript", "export"]

_HEAD = 512


def read_head(path: str) -> bytes:
    """Read the first 64 bytes of a file; raise InputError if it is missing, unreadable, empty or
    tiny.

    Raise it also if the file is a text in place of a network: a Git LFS pointer, or a web page.
    """
    input_files.check_file(path)
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({input_files.why(error)})") from error
    if len(head) < 9:
        what = f"holds {len(head)} bytes only" if head else "is empty"
        raise InputError(f"{path}: the file {what}")
    _check_head(path, head)
    return head[:64]


def check_not_text(path: str) -> None:
    """Raise InputError for a file that begins like a Git LFS pointer, a web page or a server's
    answer.

    Downloads leave such files in place of the right one.
    """
    with Path(path).open("rb") as file:
        _check_head(path, file.read(_HEAD))


def _check_head(path: str, head: bytes) -> None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{path}: is a Git LFS pointer, not the file itself: run git lfs pull in its repository"
        )
    if text.startswith((b"<!doctype html", b"<html")):
        raise InputError(
            f"{path}: is an HTML page, not the file itself: download it anew (the page may ask to "
            "log in, or to confirm)"
        )
    if text.startswith(b"<?xml") and b"<error>" in text:
        raise InputError(
            f"{path}: is the error message of an object store, not the file itself: download it "
            "anew"
        )


def is_safetensors(head: bytes) -> bool:
    """Whether a file with this beginning is in safetensors format: a length, then a JSON object."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


def zip_kind(path: str) -> Kind | Literal["checkpoint"] | None:
    """The contents of a PyTorch zip file; None for any other zip. Raise BadZipFile for a damaged
    one.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name.rpartition("/")[2] for name in archive.namelist()}
    if "archive_format" in members or "serialized_exported_program.json" in members:
        return "export"
    if "constants.pkl" in members:
        return "torchscript"
    return "checkpoint" if "data.pkl" in members else None
