"""Decode the bytes of an image to an upright RGB picture."""

__all__ = ["images", "signatures"]
