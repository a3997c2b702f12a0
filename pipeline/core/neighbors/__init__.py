"""The exact nearest rows: searches, and all pairs of a set."""

__all__ = ["apart", "by_camera", "farthest", "heaps", "kept", "meetings", "pairs", "topk"]
