"""The exact nearest rows: searches, and all pairs of a set."""

__all__ = ["farthest", "kept", "meetings", "pairs", "topk"]
