"""A network written in another format or in int8, and compared with its source."""

__all__ = ["export", "int8", "probe"]
