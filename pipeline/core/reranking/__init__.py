"""k-reciprocal re-ranking from sparse neighbors."""

__all__ = ["distances", "lists", "ranks", "reciprocal"]
