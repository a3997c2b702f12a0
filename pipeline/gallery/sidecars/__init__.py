"""Small files beside the rows: plans, calibrations, graphs."""

__all__ = [
    "attempts",
    "calibrations",
    "camera_statistics",
    "candidates",
    "capture_times",
    "graph",
    "plan",
    "seen",
]
