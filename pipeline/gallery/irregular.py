"""Links, mounts and the like in a gallery's folder, whose bytes also exist elsewhere.

A purge deletes names. If bytes have another name outside the folder, or a link points to them, they
would remain although the purge reports that they are gone.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, ObjectPlace, root_of

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_SHOWN = 5


@dataclass(frozen=True)
class Irregular:
    """A name in a gallery's folder, relative to it, with what is wrong and what to do."""

    file: str
    problem: str


def irregular_files(root: GalleryPlace) -> list[Irregular]:
    """Find symbolic links, files with names outside of the folder, mounts inside it, and special
    files.

    Special files are neither files nor folders. An object store has none of all these.
    """
    if isinstance(root, ObjectPlace):
        return []
    root = root.resolve()
    mounted, device = _mounted(), root.stat().st_dev
    found: list[Irregular] = []
    names: dict[tuple[int, int], list[Path]] = {}
    for path, about in _entries(root):
        file = str(path.relative_to(root))
        if str(path) in mounted or about.st_dev != device:
            found.append(Irregular(file, "something is mounted here: unmount it"))
        elif stat.S_ISLNK(about.st_mode):
            target = f"a symbolic link to {path.readlink()}"
            found.append(Irregular(file, f"{target}: put the file or folder itself in its place"))
        elif problem := _misplaced(file, is_folder=stat.S_ISDIR(about.st_mode)):
            found.append(Irregular(file, problem))
        elif stat.S_ISREG(about.st_mode):
            names.setdefault((about.st_dev, about.st_ino), []).append(path)
        elif not stat.S_ISDIR(about.st_mode):
            found.append(Irregular(file, "neither a file nor a folder: delete it"))
    for paths in names.values():
        found += _of_links(root, paths)
    return sorted(found, key=lambda each: each.file)


def check_regular(location: str) -> None:
    """Raise `InputError` for anything that `irregular_files` finds, because a purge could then
    prove nothing.
    """
    root = root_of(location)
    found = irregular_files(root)
    if found:
        told = "; ".join(f"{root / each.file}: {each.problem}" for each in found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise InputError(
            "a purge deletes only the gallery's own files, and nothing was changed yet:"
            f" {told}{more}"
        )


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield everything below a folder, on its own file system; links are not followed."""
    for path in sorted(folder.iterdir()):
        try:
            about = path.lstat()
        except FileNotFoundError:  # a writer was done with it
            continue
        yield path, about
        if stat.S_ISDIR(about.st_mode) and about.st_dev == folder.stat().st_dev:
            yield from _entries(path)


def _misplaced(file: str, *, is_folder: bool) -> str | None:
    """The fault of a file in place of a folder, a folder in place of a file, or a file in the
    purge's folder that no purge set aside.
    """
    folder, _, name = file.rpartition("/")
    if not folder and file in storage.OWN_NAMES and is_folder == (file in storage.OWN_FILES):
        kinds = ("a folder", "a file")
        return f"{kinds[not is_folder]}, where {kinds[is_folder]} belongs: move it elsewhere"
    if folder == storage.PURGED_FOLDER and (is_folder or not name.endswith(".parquet")):
        return "no purge set this aside: move it elsewhere"
    return None


def _of_links(root: Path, paths: list[Path]) -> Iterator[Irregular]:
    """Yield files with more names than these, of which all except one should be hidden.

    A unit's file has two names for a moment, while it gets its final name.
    """
    final = [path for path in paths if not storage.is_temporary(path)]
    if not final:
        return
    try:
        count = final[0].lstat().st_nlink
    except FileNotFoundError:
        return
    file = str(final[0].relative_to(root))
    if count > len(paths):
        yield Irregular(
            file,
            f"its bytes have {count - len(paths)} more names outside of the gallery (hard links;"
            f" `find DIR -samefile {final[0]}` finds them): delete those, or put a copy here",
        )
    elif len(final) > 1:
        others = ", ".join(str(path.relative_to(root)) for path in final[1:])
        yield Irregular(file, f"the same file as {others} (hard links): delete one, or copy it")


def _mounted() -> set[str]:
    """The mount points of this machine, if they can be listed; spaces and the like in octal."""
    if not _MOUNTS.exists():
        return set()
    lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    return {_ESCAPED.sub(lambda code: chr(int(code[1], 8)), line.split()[4]) for line in lines}
