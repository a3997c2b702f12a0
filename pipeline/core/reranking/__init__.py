"""k-reciprocal re-ranking from sparse neighbors."""
