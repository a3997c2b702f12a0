"""An object that is read in parts, as pyarrow requests them."""

import io

from pipeline.gallery.files.objects import ObjectPlace

_END_BYTES = 64 << 10


class ObjectFile(io.RawIOBase):
    """The bytes of an object; each part is fetched when it is read.

    One request opens it and fetches its end, where a Parquet file describes its contents. Raise
    `FileNotFoundError` if the object does not exist.
    """

    def __init__(self, place: ObjectPlace) -> None:
        super().__init__()
        self._place = place
        self._end, self._size = place.fetch_end(_END_BYTES)
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Set the position, from the start, from here or from the end."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = origin + offset
        return self._position

    def size(self) -> int:
        """The number of bytes."""
        return self._size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes from the position on, or all; fewer only at the end."""
        left = max(0, self._size - self._position)
        length = left if size is None or size < 0 else min(size, left)
        data = bytes(self.part(self._position, length))
        self._position += len(data)
        return data

    def part(self, start: int, length: int) -> memoryview:
        """Some bytes of the object, without a copy."""
        if length == 0:
            return memoryview(b"")
        begin = self._size - len(self._end)
        if start >= begin:
            return self._end[start - begin : start - begin + length]
        return self._place.fetch_range(start, length)
