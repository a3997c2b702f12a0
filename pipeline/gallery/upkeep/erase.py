"""Erasure: removes rows and rejects from a gallery in one commit."""

import hashlib

from pipeline.gallery.log.lock import Lock
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.selection import Selected


def erase(gallery: Gallery, selected: Selected, lock: Lock | None = None) -> Gallery:
    """The next version, without the selected rows and rejects; the same version if there are none.

    Files are rewritten without the rows; the old ones stay for readers of older versions. The log
    says that rows were erased and how many, not which. Raise what `Gallery.commit` raises.
    """
    digest = hashlib.sha256(selected.row_ids.tobytes())
    digest.update("\n".join(selected.reject_paths).encode())
    return gallery.commit(
        [],
        run_id=f"erase-{gallery.version}-{digest.hexdigest()[:16]}",
        removes=selected.row_ids,
        forget=selected.reject_paths,
        lock=lock,
    )
