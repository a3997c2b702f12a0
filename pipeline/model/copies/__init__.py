"""Copies of networks: in another format, in int8 or with fewer channels."""

__all__ = ["export", "int8", "probe", "pruning"]
