"""Maps: all rows of a set as points in the plane, near rows near each other."""

__all__ = ["fuzzy", "moving", "placing", "settings", "start"]
