"""Looking after a gallery: verify, compact, erase, purge."""
