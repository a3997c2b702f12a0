"""Connecting to Ray, and what a cluster needs to run Regallery."""
