"""A source of images listed: folders, tars and manifests."""
