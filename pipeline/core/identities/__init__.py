"""Link rows into candidate identities."""

__all__ = ["clustering", "linking", "precision", "verdicts"]
