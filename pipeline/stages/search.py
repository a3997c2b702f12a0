"""The best gallery rows of some queries, part by part of the gallery."""

from collections.abc import Callable

from pipeline.core.blocks import FeatureRows, Tiling, blocks
from pipeline.core.neighbors import topk
from pipeline.core.neighbors.topk import TopK
from pipeline.stages.tasks import run_parts


def search_gallery(
    queries: FeatureRows,
    gallery: FeatureRows,
    k: int,
    *,
    workers: int = 0,
    tiling: Tiling | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> TopK:
    """The `k` best rows of `topk.search` over the whole gallery, on `workers` (0: this process).

    k is clipped to the rows that there are. The best of parts merge in any order, so the result is
    the same to the bit for any number of workers. `progress` is told the gallery rows that each
    part has passed over. Memory is Q x (D + k) and a tile, in each worker.
    """
    tiling = tiling or Tiling()
    k = min(k, len(gallery))
    best = TopK.none(len(queries), k)
    size = tiling.gallery_block if workers else max(tiling.gallery_block, len(gallery) // 100)
    shared = (queries, gallery, k, tiling.inside(workers))
    parts = blocks(len(gallery), size)
    for start, stop, found in run_parts(_search_part, shared, parts, workers, tiling.gpus):
        best = topk.merge([best, found])
        progress(stop - start)
    return best


def _search_part(
    queries: FeatureRows, gallery: FeatureRows, k: int, tiling: Tiling, start: int, stop: int
) -> tuple[int, int, TopK]:
    found = topk.search(queries, gallery, k, part=(start, stop), tiling=tiling)
    return start, stop, found
