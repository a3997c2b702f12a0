"""The transaction log: versions, and what changes between them."""

__all__ = [
    "changes",
    "conditions",
    "entries",
    "history",
    "lock",
    "removed",
    "rewrite",
    "transactions",
]
