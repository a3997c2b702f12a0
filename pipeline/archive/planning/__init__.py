"""What has to be extracted, cut into work units."""

__all__ = ["changes", "units"]
