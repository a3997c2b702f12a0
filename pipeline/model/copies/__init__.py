"""A network written in another format or in int8, and compared with its source."""
