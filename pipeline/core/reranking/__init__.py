"""k-reciprocal re-ranking from sparse neighbor lists."""

__all__ = ["distances", "lists", "ranks", "reciprocal"]
