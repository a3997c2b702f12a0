"""Defaults for running a network. Imports nothing heavy, because the command line's flags use
them.
"""

BATCH_SIZE = 32
"""Number of crops in one batch of the network."""
