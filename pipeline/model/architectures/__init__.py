"""Networks that are built here, and their checkpoints."""

__all__ = ["backbone", "folding", "known", "reading", "recognition"]
