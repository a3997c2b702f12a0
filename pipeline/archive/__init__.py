"""Images: list a source, read labels from names, decode pixels."""
