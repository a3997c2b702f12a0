"""Maintenance of a gallery: verify, compact, erase, purge."""

__all__ = ["compact", "erase", "leftovers", "losses", "purge", "restore", "selection", "verify"]
