"""The newest report of an evaluation that a gallery lists among its outputs."""

from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.outputs import outputs_of
from pipeline.gallery.table import Gallery
from pipeline.input_files import parse_json, read_text

_ENTRY = ("ap", "first_match_rank")
_FIGURES = ("name", "queries", "valid", "rank", "mAP", "mINP")


def report_summary(gallery: Gallery) -> dict[str, Any] | None:
    """The figures of the newest report on this machine, by way of ranking, and its worst queries;
    None without one.

    A report that was changed or cannot be read is left out.
    """
    try:
        listed = outputs_of(gallery)
    except GalleryDamagedError:
        return None
    found = [
        summary
        for each in listed
        if each.kind == "report" and each.is_here and isinstance(each.place, Path)
        if (summary := _summary(each.place / "report.json")) is not None
    ]
    return max(found, key=lambda each: each["created"], default=None)


def _summary(path: Path) -> dict[str, Any] | None:
    try:
        about = parse_json(read_text(path))
        return {
            "created": str(about["created"]),
            "query": {name: about["query"][name] for name in ("location", "version")},
            "gallery": {name: about["gallery"][name] for name in ("location", "version")},
            "results": [{name: each[name] for name in _FIGURES} for each in about["results"]],
            "worst": [
                {**each["query"], **{name: each[name] for name in _ENTRY}}
                for each in (about["ranked"] or {"worst": []})["worst"]
            ],
        }
    except (InputError, ValueError, KeyError, TypeError):
        return None
