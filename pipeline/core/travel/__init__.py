"""Travel times between cameras: which sightings can be one person, by where and when they are."""

__all__ = ["conflicts", "learning", "nearby", "times"]
