"""The lock of a gallery in an object store: a lease, that is, an object with an owner and an
expiry.

It is changed only over the version that was read, so that two writers never both take a stale one.
"""

from pipeline.gallery.files.places import ObjectPlace, Tag


class OvertakenError(Exception):
    """Another writer changed the lease between our read and our change."""


class Lease:
    """The lease in the state that was last read or written here."""

    def __init__(self, place: ObjectPlace) -> None:
        self._place = place
        self._tag: Tag | None = None

    def read(self) -> bytes:
        """The contents of the lease; empty if there is none."""
        try:
            data, self._tag = self._place.fetch()
        except FileNotFoundError:
            self._tag = None
            return b""
        return bytes(data)

    def write(self, text: bytes) -> None:
        """Change it; raise `OvertakenError`, and change nothing, if it has changed since."""
        tag = self._place.put_if_unchanged(text, self._tag)
        if tag is None:
            raise OvertakenError
        self._tag = tag
