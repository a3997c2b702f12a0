"""Networks that are built here, and their checkpoints."""

__all__ = ["backbone", "demo", "folding", "known", "reading", "recognition"]
