"""Regallery's library: from images to features to figures."""
