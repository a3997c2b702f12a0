"""The cost of each stage, in one place: measured constants with their sources, and assumptions.

Times are seconds of one CPU core unless the unit says otherwise; `docs/scaling.md` shows them all.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """A measured or assumed quantity, and where it comes from."""

    value: float
    unit: str
    source: str
    is_assumed: bool = False


_EVALUATED = "benchmarks/million.py, 50,000 to 1,000,000 rows, AMD EPYC with VNNI"
_DRIVER = "benchmarks/hundred_million.py, Intel Xeon"
_UPDATED = "benchmarks/update.py, 1,000,000 rows"
_GPU = "benchmarks/gpu.py, NVIDIA H200"
_LIST_PRICE = "list price of S3 in us-east-1"

CONSTANTS = {
    # Listing, planning and committing: the driver alone.
    "list_files": Constant(7.4e-6, "s a crop, on 2 cores", _UPDATED),
    "sort_rows": Constant(2.2e-6, "s a crop", _DRIVER),
    "plan_rows": Constant(1.7e-6, "s a crop", _DRIVER),
    "commit_unit": Constant(2.5e-3, "s a unit", _DRIVER),
    "log_unit": Constant(1450, "bytes a unit, with its share of a checkpoint", _DRIVER),
    "row_bytes": Constant(45, "bytes a row beside its feature", "a unit of Market-1501-like names"),
    "driver_memory": Constant(2.0e9, "bytes, whatever the size", _DRIVER),
    "driver_unit_memory": Constant(5_000, "bytes a unit", _DRIVER),
    "mapped_row": Constant(400, "bytes a crop on the disk for temporary files", _DRIVER),
    # Extraction: the workers.
    "cpu_rate": Constant(9.5, "crops a second and core", "benchmarks/extraction.py resnet (flip)"),
    "gpu_rate": Constant(3750, "crops a second and GPU", f"{_GPU}, ResNet-50, float16, flip"),
    "free_rate": Constant(1800, "crops a second and core", "benchmarks/extraction.py free"),
    "worker_memory": Constant(1.4e9, "bytes a worker", _UPDATED),
    "ray_start": Constant(15, "s", "docs/performance.md, 63 crops"),
    # Stage 2: all cores, or the GPUs.
    "start": Constant(7, "s", _EVALUATED),
    "neighbor_pair": Constant(1.36e-9, "s a row squared, of 512 dimensions", _EVALUATED),
    "neighbor_pair_gpu": Constant(
        1.1e-11, "s of a GPU a row squared, of 512 dimensions", f"{_GPU}, k = 10"
    ),
    "copy_row": Constant(1.2e-5, "s a row of 512", _EVALUATED),
    "rank_pair": Constant(3.09e-8, "s a query and row of 512", _EVALUATED),
    "expand_row": Constant(1.0e-4, "s a row of 512", _EVALUATED),
    "rerank_pair": Constant(1.9e-8, "s a query and row", _EVALUATED),
    "search_pair": Constant(2.9e-9, "s a query and row of 512", "benchmarks/ranking.py"),
    "evaluate_memory": Constant(1.1e9, "bytes", _EVALUATED),
    "evaluate_row_memory": Constant(1_000, "bytes a row", _EVALUATED),
    "scratch_share": Constant(5, "times the features", _EVALUATED),
    "shared": Constant(0.85, "of the cores' time, on several machines", "two workers", True),
    # What nobody measured here.
    "crop_bytes": Constant(6_000, "bytes a crop", "a JPEG of 128 x 64 pixels", True),
    "read_speed": Constant(3.0e9, "bytes a second and machine", "benchmarks/gallery.py"),
    "bucket_speed": Constant(1.0e9, "bytes a second and machine", "10 Gbit/s", True),
    "latency": Constant(0.03, "s a request", "a bucket in the same region", True),
    "requests_at_once": Constant(32, "requests", "`places.REQUESTS`"),
    "put_price": Constant(5e-6, "a write or listing request", _LIST_PRICE, True),
    "get_price": Constant(4e-7, "a read request", _LIST_PRICE, True),
    "unit_writes": Constant(4, "write requests a unit", "the unit and its record", True),
    "unit_reads": Constant(6, "read requests a unit", "footers and paths before a commit", True),
}
"""Every constant by name; `is_assumed` marks what was not measured."""


def value(name: str) -> float:
    """The value of a constant."""
    return CONSTANTS[name].value
