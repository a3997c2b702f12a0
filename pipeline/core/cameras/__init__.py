"""Camera-aware normalization, drift of scores, and silent cameras."""

__all__ = ["drift", "normalization", "silence", "sums"]
