"""Products of tiles, and the one score that they lead to."""
