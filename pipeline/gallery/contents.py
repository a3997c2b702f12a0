"""A hash of the contents of a version; files that are made from a version store it."""

import hashlib

from pipeline.gallery.files.places import root_of
from pipeline.gallery.log.entries import logged_files
from pipeline.gallery.log.removed import read_steadily, report_removal
from pipeline.gallery.table import Gallery


def contents_hash(gallery: Gallery) -> str:
    """A hash of the files of a version, by name and checksum.

    If another gallery was made in the same folder, its version of the same number has another hash.
    Raise `RunError` for a version that was removed since it was opened.
    """
    root = root_of(gallery.location)
    contents = hashlib.blake2b(digest_size=8)
    with report_removal(root, gallery.version):
        logged = read_steadily(lambda: logged_files(root))
        for file in gallery.snapshot.files:
            contents.update(f"{file.path} {file.rows} {logged[file.path].sha256}\n".encode())
    return contents.hexdigest()
