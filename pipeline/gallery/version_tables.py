"""Small tables that belong to a version of a gallery, and leave with it."""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, root_of
from pipeline.gallery.log.entries import oldest_version
from pipeline.gallery.table import Gallery


def write_version_table(
    gallery: Gallery, path: GalleryPlace, table: pa.Table, version: int
) -> GalleryPlace:
    """Write a table that may be kept as long as a `version` is; return its path.

    Raise `InputError` if the version was removed meanwhile, since the table may follow from erased
    rows, and `RunError` if the disk is full.
    """
    storage.make_folder(path.parent)
    storage.drop_cut_off(path.parent, path.name)
    checksums.write_recorded(
        path,
        lambda temporary: pq.write_table(
            table, temporary, compression="none", use_dictionary=False, write_page_checksum=True
        ),
    )
    # A purge deletes such files after the version has left the log; a file written later is deleted
    # here.
    if version < oldest_version(root_of(gallery.location)):
        storage.delete_files([path])
        raise InputError(f"{gallery.location}: version {version} was removed meanwhile")
    return path
