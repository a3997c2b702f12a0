"""The lock of a gallery in an object store: a lease, an object with an owner and an expiry.

It is changed only over the version that was read, so that two writers never both take a stale one.
"""

from pipeline.gallery.files.places import ObjectPlace, Tag


class OvertakenError(Exception):
    """Another writer changed the lease between our reading it and our changing it."""


class Lease:
    """The lease as it was when it was last read or written here."""

    def __init__(self, place: ObjectPlace) -> None:
        self._place = place
        self._tag: Tag | None = None

    def read(self) -> bytes:
        """What it says; nothing if there is none."""
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
