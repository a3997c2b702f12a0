"""What a purge does to verdicts: nothing about rows that are gone stays in them."""

import logging
from collections.abc import Iterable, Sequence

import pyarrow as pa

from pipeline.gallery.files.places import GalleryPlace, root_of
from pipeline.gallery.table import Gallery
from pipeline.gallery.verdicts.counting import has_both_rows, with_present_rows
from pipeline.gallery.verdicts.entries import VERDICT_SCHEMA, entry_files, rewrite_entries

_log = logging.getLogger(__name__)
_SHORTEST_PATH = 8
"""Bytes of the shortest path that is searched for in comments; shorter ones are in many words."""


def forget_gone_rows(gallery: Gallery) -> int:
    """Remove the entries on rows that this version does not have; return how many there were.

    Entries on a row that was extracted again get the id that it has now.
    """
    removed = 0
    for path, entries in entry_files(root_of(gallery.location)):
        present = with_present_rows(gallery, entries)
        kept = present.filter(has_both_rows(present))
        removed += len(entries) - len(kept)
        if not kept.equals(entries):
            rewrite_entries(path, kept)
    return removed


def forget_in_comments(root: GalleryPlace, paths: Sequence[str]) -> int:
    """Remove the comments that name one of these paths of rows that are gone; return how many."""
    removed = 0
    for path, entries in entry_files(root):
        comments = entries["comment"].to_pylist()
        kept = [None if _names_one(text, paths) else text for text in comments]
        if kept != comments:
            removed += sum(one != other for one, other in zip(kept, comments, strict=True))
            place = VERDICT_SCHEMA.get_field_index("comment")
            column = pa.array(kept, pa.string())
            rewrite_entries(path, entries.set_column(place, VERDICT_SCHEMA.field(place), column))
    if removed:
        _log.warning("%d comments of verdicts named rows that are gone: removed", removed)
    return removed


def _names_one(text: str | None, paths: Iterable[str]) -> bool:
    return text is not None and any(
        path == text or (len(path.encode()) >= _SHORTEST_PATH and path in text) for path in paths
    )
