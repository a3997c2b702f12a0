"""A source of images listed: folders, tars and manifests."""

__all__ = ["files", "findings", "manifest_files", "reading", "source"]
