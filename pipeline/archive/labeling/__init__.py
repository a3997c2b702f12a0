"""Boxes with identities and candidates as labels on their frames, in the formats of other tools."""

__all__ = ["coco", "cvat", "fiftyone", "labels", "mot"]
