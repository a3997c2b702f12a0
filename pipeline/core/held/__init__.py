"""Rows that stay in memory, and answer one small search after another."""

__all__ = ["rows", "search"]
