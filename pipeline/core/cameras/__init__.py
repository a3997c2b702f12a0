"""Features without what their cameras add."""

__all__ = ["drift", "normalization", "silence", "sums"]
