"""The network of the demo, and how it was trained."""
