"""Convert a decoded picture to the input of a network."""

__all__ = ["opening", "preprocessing", "views"]
