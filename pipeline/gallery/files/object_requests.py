"""Requests to an object store that concern many objects, or the store itself."""

import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import obstore

from pipeline.gallery.files.objects import ObjectPlace
from pipeline.object_client import StoreError, ask_again, client_of

_DELETED, _DELETIONS = 250, 4


def check_store(root: ObjectPlace) -> None:
    """Raise `StoreError` if a place cannot be written to, or if the store overwrites existing
    objects.

    If the store does not refuse to write an object that is already there, two writers could both
    commit.
    """
    probe = root / f".probe-{uuid.uuid4().hex}"
    try:
        if not probe.put_new(b"one") or probe.put_new(b"another"):
            raise StoreError(
                f"{root}: the object store ignores `If-None-Match`, so that two writers could"
                " overwrite each other: a gallery needs a store with conditional writes"
            )
    finally:
        probe.unlink(missing_ok=True)


def delete_all(places: Iterable[ObjectPlace]) -> None:
    """Delete objects, many with each request; one that is already gone is not an error."""
    by_bucket: dict[str, list[ObjectPlace]] = {}
    for each in places:
        by_bucket.setdefault(each.bucket, []).append(each)
    for bucket, several in by_bucket.items():
        if bucket.startswith("s3://"):
            keys = [each.key for each in several]
            parts = [keys[start : start + _DELETED] for start in range(0, len(keys), _DELETED)]
            with ThreadPoolExecutor(min(len(parts), _DELETIONS)) as pool:
                done = [pool.submit(_delete, several[0], part) for part in parts]
                for future in done:
                    future.result()
        else:
            for each in several:
                each.unlink(missing_ok=True)


def _delete(one: ObjectPlace, keys: Sequence[str]) -> None:
    store = client_of(one.bucket)
    ask_again(one, lambda: obstore.delete(store, keys))
