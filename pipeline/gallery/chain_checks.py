"""Check that the log is as it was written: its entries by their chain, and its checkpoints by the
record (see `chain`).
"""

import hashlib
import re
from collections.abc import Iterator, Sequence

from pipeline.gallery import chain
from pipeline.gallery.chain import LAST_CHECKPOINT, entry_file, log_folder, name_in_log
from pipeline.gallery.files.places import GalleryPlace, below, in_order, read_each
from pipeline.gallery.files.storage import GalleryDamagedError

_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")
_TRIES = 5


def check_chain(root: GalleryPlace, version: int | None = None) -> None:
    """Raise `GalleryDamagedError` naming an entry or a checkpoint that is needed to read a version
    (the latest by default) and has changed since it was written.
    """
    found: tuple[str, str] | None = None
    for _ in range(_TRIES):
        record = chain.read_log_record(root)
        found = next(_of_version(root, record, version), None)
        if found is None:
            return
        if chain.read_log_record(root) == record:  # else a writer was at work meanwhile
            break
    if found is not None:
        raise GalleryDamagedError(f"{root / found[0]}: {found[1]}")


def changed_entries(root: GalleryPlace) -> list[tuple[str, str]]:
    """The name of each file of the log that has changed since it was written, and what is wrong."""
    found: list[tuple[str, str]] = []
    for _ in range(_TRIES):
        before = _bytes(root)
        found = list(_findings(root))
        if not found or _bytes(root) == before:  # else a writer was at work meanwhile
            break
    return found


def _bytes(root: GalleryPlace) -> bytes | None:
    """The bytes of the record on the disk."""
    path = chain.record_file(root)
    return path.read_bytes() if path.is_file() else None


def _findings(root: GalleryPlace) -> Iterator[tuple[str, str]]:
    try:
        record = chain.read_log_record(root)
    except GalleryDamagedError as error:
        path = chain.record_file(root)
        yield below(path, root), str(error).removeprefix(f"{path}: ")
        return
    record = chain.with_others_checkpoint(root, record)
    versions = chain.versions_in(root)
    yield from _walk(root, record, record.oldest, versions)
    for name, digest in record.checkpoints.items():
        yield from _of_checkpoint(root, record, name, digest)
    if record.being_made is None and record.last_checkpoint is not None:
        yield from _of_checkpoint(root, record, LAST_CHECKPOINT, record.last_checkpoint)
    known = {entry_file(root, each).name for each in versions if each >= record.oldest}
    known |= record.checkpoints.keys()
    if record.last_checkpoint is not None:
        known.add(LAST_CHECKPOINT)
    if record.being_made is not None:
        known |= {f"{record.being_made:020d}.checkpoint.parquet", LAST_CHECKPOINT}
    for path in in_order(log_folder(root).iterdir()):
        if path.name not in known and not chain.is_half_written(path):
            yield (
                name_in_log(path.name),
                "this tool did not leave the file there, or a clean or a purge was cut off: run"
                " that again",
            )


def _of_version(
    root: GalleryPlace, record: chain.Record, version: int | None
) -> Iterator[tuple[str, str]]:
    """Yield the faults of the checkpoint of a version, and of the entries after it."""
    there = {path.name for path in log_folder(root).iterdir()}
    if LAST_CHECKPOINT in there:
        record = chain.with_others_checkpoint(root, record)
    made = [int(match[1]) for match in map(_CHECKPOINT.fullmatch, there) if match]
    usable = [each for each in made if version is None or each <= version]
    checkpoint = max(usable, default=-1)
    yield from _walk(root, record, max(record.oldest, checkpoint + 1), chain.numbered(there))
    names = {f"{checkpoint:020d}.checkpoint.parquet"}
    if LAST_CHECKPOINT in there:  # which may name one that is gone
        names |= set(sorted(record.checkpoints)[-1:])
    for name in sorted(names & record.checkpoints.keys()):
        yield from _of_checkpoint(root, record, name, record.checkpoints[name])


def _walk(
    root: GalleryPlace, record: chain.Record, first: int, versions: Sequence[int]
) -> Iterator[tuple[str, str]]:
    """Yield the faults of the entries down to the version `first`, newest first.

    `versions` are the versions that have an entry, ascending.
    """
    newest = _last_of_chain(record, first, versions)
    for version in versions:
        if version > newest:
            yield (
                name_in_log(entry_file(root, version).name),
                "this entry of the log follows no other",
            )
    named: str | None = None
    numbers = range(newest, first - 1, -1)
    entries = [entry_file(root, version) for version in numbers]
    for version, path, data in zip(numbers, entries, read_each(entries), strict=True):
        found = None if data is None else hashlib.sha256(data).hexdigest()
        if data is None:
            yield (
                name_in_log(path.name),
                "this entry of the log is gone; restore it from a copy",
            )
            named = None
            continue
        is_last_recorded = version == record.newest and found == record.sha256
        wanted = record.sha256 if version == record.newest else named
        link = chain.link_of(data)
        if (wanted is not None and found != wanted) or (link and link[0] != version):
            yield (
                name_in_log(path.name),
                "this entry of the log is not as it was written (SHA-256); restore it from a copy",
            )
            named = None
            continue
        if is_last_recorded and named is not None and named != found:
            after = entry_file(root, version + 1).name
            yield name_in_log(after), f"this entry of the log does not follow {path.name}"
        named = link[1] if link else None


def _last_of_chain(record: chain.Record, first: int, versions: Sequence[int]) -> int:
    """The version of the last entry that follows the recorded one without a gap.

    If another tool deleted the recorded one, it is the version before `first`.
    """
    newest, there = max(record.newest, first - 1), set(versions)
    while newest + 1 in there:
        newest += 1
    return newest


def _of_checkpoint(
    root: GalleryPlace, record: chain.Record, name: str, expected: str
) -> Iterator[tuple[str, str]]:
    """Yield the fault of a checkpoint, or of the file that names the last one."""
    found = chain.digest_of(log_folder(root) / name)
    if found == expected:
        return
    if found is None:
        problem = "the file is gone"
    else:
        problem = "its bytes are not those that were written (SHA-256)"
    if record.oldest and (name == LAST_CHECKPOINT or int(name[:20]) == record.oldest):
        yield name_in_log(name), f"{problem}; restore it from a copy"
    else:
        yield (
            name_in_log(name),
            f"{problem}; delete it and {LAST_CHECKPOINT} beside it: the log's entries hold the"
            " same, and the next commit goes on without it",
        )
