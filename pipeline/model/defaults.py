"""What a network is run with unless it is told otherwise; flags are made of it, so it is light."""

BATCH_SIZE = 32
"""Crops that a network takes at once."""
