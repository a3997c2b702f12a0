"""Videos and frames with boxes: every box is a crop, cut from its decoded frame."""

__all__ = ["ahead", "decoding", "listing", "names", "pictures", "places", "rules", "sizes"]
