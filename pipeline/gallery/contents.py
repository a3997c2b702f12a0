"""What a version of a gallery holds, as a hash for what is made from it and kept elsewhere."""

import hashlib

from pipeline.gallery.files import storage
from pipeline.gallery.log.entries import logged_files
from pipeline.gallery.log.removed import removal_told, steadily
from pipeline.gallery.table import Gallery


def contents_hash(gallery: Gallery) -> str:
    """A hash of the files of a version, by name and checksum.

    Another gallery that was made in the same place, and has come to the same number, has another.
    Raises `RunError` for a version that was removed since it was opened.
    """
    root = storage.local_root(gallery.location)
    contents = hashlib.blake2b(digest_size=8)
    with removal_told(root, gallery.version):
        logged = steadily(lambda: logged_files(root))
        for file in gallery.snapshot.files:
            contents.update(f"{file.path} {file.rows} {logged[file.path].sha256}\n".encode())
    return contents.hexdigest()
