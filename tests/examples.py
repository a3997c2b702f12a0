"""How many examples Hypothesis tries where each costs much: a third of what others have."""

from hypothesis import settings

FEW = settings(max_examples=settings.default.max_examples // 3)
"""33, and a third of those of the profile `explore` under it."""
