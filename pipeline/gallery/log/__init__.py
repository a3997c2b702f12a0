"""The transaction log: versions, and what changes between them."""
