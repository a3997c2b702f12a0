"""Products of tiles, and the one score that they lead to."""

__all__ = [
    "choosing",
    "counting",
    "fold",
    "half_rows",
    "kernels",
    "masks",
    "sieve",
    "tiles",
]
