"""What an extraction takes unless it is told otherwise; flags are made of it, so it is light."""

from pipeline.errors import InputError

MAX_PIXELS = 50_000_000
"""Pictures of more pixels are rejects."""

UNIT_SIZE = 1024
"""Images in a work unit."""

UNIT_SIZES = (1, 2048)
"""The smallest and the largest work unit."""


def check_unit_size(unit_size: int) -> None:
    """Raise InputError where no unit may be of this size."""
    low, high = UNIT_SIZES
    if not low <= unit_size <= high:
        raise InputError(f"a work unit holds {low} to {high} images, not {unit_size}")
