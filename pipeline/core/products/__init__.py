"""Products of tiles, and the score that decides every pair."""

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
