"""Features in the formats of other tools."""

__all__ = [
    "csv_cells",
    "export",
    "faiss_files",
    "fastreid_files",
    "features",
    "mat_files",
    "origin",
]
