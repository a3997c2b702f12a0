"""Bytes of an image to an upright RGB picture."""
