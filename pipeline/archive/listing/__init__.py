"""List a source of images: folders, tars and manifests."""

__all__ = ["allowed", "files", "findings", "manifest_files", "reading", "source"]
