"""Clusters of rows that probably show one identity, found without labels."""

__all__ = ["dbscan", "encoding", "jaccard", "stability"]
