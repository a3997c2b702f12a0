"""Regallery's library: what happens to the data, from images to features to numbers."""
