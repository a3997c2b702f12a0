"""Find what must be extracted, and divide it into work units."""

__all__ = ["changes", "units"]
