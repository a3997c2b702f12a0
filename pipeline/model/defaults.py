"""Defaults for running a network. Imports nothing heavy: flags are made from them."""

BATCH_SIZE = 32
"""Crops that a network takes at once."""
