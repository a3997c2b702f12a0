"""Check that a gallery's files are as they were written, by the records of their checksums (see
`checksums`).
"""

from collections.abc import Callable, Iterator

from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, below, sha256_of
from pipeline.gallery.seals import unseal


def changed_files(root: GalleryPlace, known: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """The name of each file of a folder that differs from its record, and what is wrong.

    `known` says which files have no record because the log names them.
    """
    records = root / storage.CHECKSUMS_FOLDER
    for record in sorted(path for path in records.rglob("*") if path.is_file()):
        name = below(record, records)
        if name == checksums.LOG_RECORD or checksums.is_half_written(record):
            continue
        if name == storage.LOCK_FILE:
            if record.stat().st_size:
                yield below(record, root), "the file should be empty; delete it"
            continue
        if fault := _fault_of(record, name):
            yield below(record, root), f"a record of a checksum is damaged ({fault})"
        path = root / name.removesuffix(record.suffix)
        is_missed = record.suffix == storage.RECORD_SUFFIX and not path.exists()
        if is_missed and record.exists():
            yield below(path, root), "the file is gone"
    for path in _own_files(root):
        if not known(below(path, root)) and not storage.is_temporary(path):
            yield from _of_file(root, path)


def _fault_of(record: GalleryPlace, name: str) -> Exception | str | None:
    """What is wrong with a record, if it is still there: a writer renames records at any moment."""
    if record.suffix not in checksums.SUFFIXES:
        return "this is not a record of a checksum" if record.exists() else None
    try:
        if unseal(record.read_bytes())["file"] != name.removesuffix(record.suffix):
            return "this is the record of another file"
        if record.suffix == storage.GOING_SUFFIX and _stays(record):
            return "the file has another record, which says that it stays"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        return error
    return None


def _stays(going: GalleryPlace) -> bool:
    """Whether a file has another record besides one that says "going"."""
    record = going.with_suffix(storage.RECORD_SUFFIX)
    return record.exists() and not checksums.is_copied(record, going)


def _own_files(root: GalleryPlace) -> list[GalleryPlace]:
    """The files that need a record or must be known: all except those of the log and the
    records.
    """
    apart = {storage.CHECKSUMS_FOLDER, storage.LOG_FOLDER, storage.GRAPH_FOLDER}
    apart.add(storage.PURGED_FOLDER)
    found: list[GalleryPlace] = []
    for path in root.iterdir():
        if path.is_dir() and path.name not in apart:
            found += path.rglob("*")
        elif path.name != storage.LOCK_FILE:
            found.append(path)
    # `irregular_files` reports links, pipes and the like; reading a pipe would never end.
    return sorted(each for each in found if storage.is_own_file(each))


def _of_file(root: GalleryPlace, path: GalleryPlace) -> Iterator[tuple[str, str]]:
    name = below(path, root)
    for _ in range(2):  # a writer may be at work
        wanted, may_lack = checksums.expected(path)
        try:
            if sha256_of(path) in wanted:
                return
            problem = checksums.why_not(path, wanted)
        except FileNotFoundError:
            if may_lack:
                return
            problem = "the file is gone"
        except OSError as error:
            problem = f"the file cannot be read ({error.strerror})"
    yield name, problem
