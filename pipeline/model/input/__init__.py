"""Convert a decoded picture to the input of a network."""

__all__ = ["cpu_batches", "gpu_batches", "opening", "preprocessing", "views"]
