"""Link rows into candidate identities."""

__all__ = ["clustering", "linking", "merging", "mining", "precision", "verdicts"]
