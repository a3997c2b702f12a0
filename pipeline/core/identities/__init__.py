"""Link rows into candidate identities."""

__all__ = ["clustering", "linking", "mining", "precision", "verdicts"]
