"""Features without what their cameras add."""

__all__ = ["normalization", "sums"]
