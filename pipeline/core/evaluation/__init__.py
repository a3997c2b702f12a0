"""Ranks of matches, and the metrics that follow from them."""
