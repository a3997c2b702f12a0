"""Defaults of an extraction. Imports nothing heavy, because the command line's flags use them."""

from pipeline.errors import InputError

MAX_PIXELS = 50_000_000
"""Pictures with more pixels are rejects."""

MAX_BYTES = 256 * 2**20
"""Image files with more bytes are rejects, and are not read."""

REMOTE_READERS = 16
"""Threads of a worker that read and decode images from an object store, where most of the time is
waiting.
"""

UNIT_SIZE = 1024
"""Images in a work unit."""

UNIT_SIZES = (1, 2048)
"""The smallest and the largest work unit."""


def check_max_bytes(max_bytes: int) -> None:
    """Raise InputError if no image file could be small enough."""
    if max_bytes < 1:
        raise InputError(f"`max_bytes` must be at least 1, not {max_bytes}")


def check_unit_size(unit_size: int) -> None:
    """Raise InputError if work units cannot have this size."""
    low, high = UNIT_SIZES
    if not low <= unit_size <= high:
        raise InputError(f"a work unit holds {low} to {high} images, not {unit_size}")
