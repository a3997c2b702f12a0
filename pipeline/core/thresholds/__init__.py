"""Similarities of matches and of others, and thresholds between them."""

__all__ = ["acceptance", "calibration", "false_matches", "negatives", "open_set"]
