"""Ranks of matches, and the metrics computed from them."""

__all__ = [
    "bootstrap",
    "by_camera",
    "labels",
    "metrics",
    "multi_query",
    "ranked_lists",
    "ranking",
    "single_shot",
]
