"""The reasons why an image does not become a row, as reason and detail of a reject."""


class Rejected(Exception):  # noqa: N818 (no fault of the program: it becomes a row of rejects)
    """An input that does not become a row.

    `reason` is a short slug to count by, `detail` a sentence without the path.

    >>> str(Rejected("empty", "the file has no bytes"))
    'empty: the file has no bytes'
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class ReadError(Rejected):
    """A file that cannot be read; `reason` is missing, unreadable, truncated or too-large."""


class DecodeError(Rejected):
    """Bytes that cannot be decoded to a picture.

    `reason` is empty, not-an-image, truncated, corrupt, too-large or unsupported.
    """


class ChangedError(Exception):
    """The bytes behind a row are others than those that its feature was computed from."""


def check_bytes(size: int, most: int) -> None:
    """Raise ReadError for a file of more than `most` bytes."""
    if size > most:
        raise ReadError(
            "too-large", f"{size:,} bytes are more than the {most:,} allowed (`max_bytes`)"
        )


def check_pixels(height: int, width: int, largest: int) -> None:
    """Raise DecodeError for a picture without pixels, or with more than `largest`."""
    if height < 1 or width < 1:
        raise DecodeError("corrupt", f"its header says {width} x {height} pixels")
    if height * width > largest:
        raise DecodeError(
            "too-large", f"{width} x {height} pixels are more than the {largest:,} allowed"
        )
