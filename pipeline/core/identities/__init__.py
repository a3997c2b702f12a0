"""Rows linked to candidates of identities."""

__all__ = ["clustering", "linking", "precision"]
