"""Write a network in another format or in int8, and compare it with its source."""

__all__ = ["export", "int8", "probe"]
