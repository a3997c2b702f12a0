"""What people said of pairs of rows: same or different. A table of entries beside the gallery."""

__all__ = ["counting", "entries", "forgetting"]
