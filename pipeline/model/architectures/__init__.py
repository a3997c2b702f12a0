"""Networks built here, and their checkpoints."""
