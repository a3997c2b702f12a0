"""Products of tiles, and the one score that they lead to."""

__all__ = [
    "choosing",
    "counting",
    "float_products",
    "half_rows",
    "kernels",
    "masks",
    "principal",
    "tiles",
]
