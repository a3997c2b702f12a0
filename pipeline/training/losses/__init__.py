"""What a network is trained to make small."""

__all__ = ["arcface", "camera_proxies", "cluster_memory", "pairs", "softmax", "triplet"]
