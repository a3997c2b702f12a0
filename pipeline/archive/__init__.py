"""Images: listing a source, reading labels from its names, decoding pixels."""
