"""What a network is trained to make small."""

__all__ = ["cluster_memory"]
