"""The exact nearest rows: searches, and all pairs of a set."""
