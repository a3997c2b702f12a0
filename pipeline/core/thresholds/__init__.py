"""Similarities of matches and of others, and thresholds between them."""

__all__ = ["acceptance", "calibration", "false_matches", "misidentified", "negatives", "open_set"]
