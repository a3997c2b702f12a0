"""Read identity, camera and time from the name of an image."""

__all__ = ["datasets", "labels", "named", "rules", "suspects"]
