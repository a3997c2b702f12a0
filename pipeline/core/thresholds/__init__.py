"""Similarities of matches and of others, and thresholds between them."""
