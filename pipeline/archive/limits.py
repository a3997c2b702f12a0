"""What an extraction takes unless it is told otherwise; flags are made of it, so it is light."""

MAX_PIXELS = 50_000_000
"""Pictures of more pixels are rejects."""

UNIT_SIZE = 1024
"""Images in a work unit."""

UNIT_SIZES = (1, 2048)
"""The smallest and the largest work unit."""
